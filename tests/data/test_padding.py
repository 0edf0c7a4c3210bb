"""Zeros around images, in memory, streamed, in recipes and where a model is measured."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import vaezoo
from vaezoo.data import Dataset, StreamedDataset, binarize, bundled_images, from_tensors, load_dataset, pad
from vaezoo.data.streaming.dataset import stream
from vaezoo.errors import DataError, RecipeError
from vaezoo.evaluation.test_sets import test_set as set_for


@dataclass
class Kept:
    """A source with its images in memory."""

    images: Tensor
    shape = (3, 5, 4)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, positions: Tensor) -> Tensor:
        return self.images[positions]


def gray(count: int = 20, streamed: bool = False) -> Dataset:
    images = torch.randint(0, 256, (count, 3, 5, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    if streamed:
        return StreamedDataset(name="mine", split="train", reader=stream(Kept(images)))
    return from_tensors(images, "mine")


@pytest.mark.parametrize("how", ["none", "static", "dynamic"])
def test_padding_equals_numpys_in_memory_and_streamed(how: str) -> None:
    chosen, everything = torch.tensor([3, 0, 19]), gray()
    wanted = np.pad(everything.images.numpy(), [(0, 0), (0, 0), (2, 2), (2, 2)])
    kept, streamed = (binarize(pad(each, 2), how) for each in (everything, gray(streamed=True)))
    assert kept.shape == streamed.shape == (3, 9, 8)
    assert torch.equal(kept.batch(chosen), streamed.batch(chosen)) and kept.digest == streamed.digest
    if how != "static":
        assert (kept.images.numpy() == wanted).all()
    assert not kept.batch(chosen)[wanted[chosen] == 0].any()  # zeros stay zeros


def test_invalid_padding_is_refused() -> None:
    assert pad(gray(), 0).shape == (3, 5, 4)
    for data, width in ((from_tensors(torch.rand(5, 30)), 1), (gray(), -1), (gray(), 9)):
        with pytest.raises(DataError, match=rf"pad = {width} .*expected images"):
            pad(data, width)
    with pytest.raises(DataError, match="Pad them before"):
        pad(binarize(gray(streamed=True), "static"), 1)
    recipe = {"variant": "vae", "data": {"name": "digits", "pad": -1}, "train": {"steps": 1}}
    with pytest.raises(RecipeError, match=r"data\.pad: "):
        vaezoo.read_recipe(recipe)


@pytest.mark.filterwarnings("ignore:.*latents are active")
def test_a_model_is_measured_on_images_padded_as_it_was_trained(tmp_path: Path) -> None:
    recipe = {
        "variant": "vae",
        "architecture": {"latent": 3, "backbone": {"name": "mlp", "hidden": [8]}},
        "data": {"name": "digits", "binarize": "dynamic", "pad": 2, "validation": 100},
        "train": {"steps": 5},
    }
    vaezoo.train(recipe, out=tmp_path / "run", trackers=())
    model = vaezoo.load(tmp_path / "run")
    assert model.shape == (1, 12, 12) and model.config["data"]["pad"] == 2
    chosen, plain = set_for(model, "digits"), load_dataset("digits", "test")
    assert chosen.digest == binarize(pad(plain, 2), "static").digest
    assert set_for(model, pad(plain, 2)).digest == chosen.digest == set_for(model, plain).digest
    assert vaezoo.evaluate(model, "digits", samples=2, limit=10).examples == 10
    with pytest.raises(ValueError, match="shape"):
        vaezoo.evaluate(vaezoo.load("vae-mnist"), pad(bundled_images(), 2), samples=2)
