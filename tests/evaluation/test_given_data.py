"""Every public function that takes data takes every form of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image as image
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

import vaezoo
from vaezoo import evaluation, pictures
from vaezoo.core import VAE
from vaezoo.data import Factors, from_tensors, load_dataset
from vaezoo.evaluation.test_sets import examples_of
from vaezoo.evaluation.test_sets import test_set as set_for
from vaezoo.pictures.sheet import Panel
from vaezoo.workflows.compare import Failure, compare

X = (torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
Y = torch.arange(12) % 3
WHOLE = from_tensors((X, Y), split="test", factors=Factors.of(torch.stack([Y, Y % 2], 1), ["y", "odd"]))


class Items(IterableDataset[object]):
    def __iter__(self):  # type: ignore[no-untyped-def]  # as in user code
        return iter(zip(X, Y, strict=True))


FORMS = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy()),
    "list": [(image.fromarray(x[0].numpy()), int(y)) for x, y in zip(X, Y, strict=True)],
    "torch": TensorDataset(X, Y),
    "Subset": Subset(WHOLE, range(12)),
    "iterable": Items(),
    "DataLoader": DataLoader(TensorDataset(X, Y), batch_size=5),
}
CALLS: dict[str, Callable[[VAE, object], object]] = {
    "evaluate": lambda model, data: evaluation.evaluate(model, data, samples=2).as_dict(),
    "active_units": evaluation.active_units,
    "cluster": lambda model, data: evaluation.cluster(model, data).tolist(),
    "label_error": evaluation.label_error,
    "evidence": lambda model, data: evaluation.evidence(model, data, 2).tolist(),
    "representation": lambda model, data: evaluation.representation(model, data).tolist(),
    "embed": lambda model, data: [each if each is None else each.tolist() for each in evaluation.embed(model, data)],  # type: ignore[union-attr]
    "frechet_distance": lambda model, data: evaluation.frechet_distance(model, data),
    "frechet_distance of images": lambda model, data: evaluation.frechet_distance(data, X.float() / 255),
    "fit_sampler": lambda model, data: vaezoo.fit_sampler(model, data, "normal").sample(2, seed=0).tolist(),
}


SMALL: dict[str, object] = {"name": "mlp", "hidden": [5]}


@pytest.fixture(scope="module")
def model() -> VAE:
    return vaezoo.create(
        "vade", shape=(1, 4, 4), latent=2, likelihood="gaussian", backbone={"name": "mlp", "hidden": [5]}
    )


@pytest.mark.parametrize("name", CALLS)
def test_values_do_not_depend_on_the_form(name: str, model: VAE) -> None:
    wanted = CALLS[name](model, WHOLE)
    for form, data in FORMS.items():
        assert CALLS[name](model, data) == wanted, form


def test_functions_take_names(model: VAE) -> None:
    digits = vaezoo.create("vae", shape=(1, 8, 8), latent=2)
    assert evaluation.representation(digits, "digits").shape == (len(load_dataset("digits", "test")), 2)
    assert evaluation.active_units(digits, "digits") == evaluation.active_units(digits, set_for(digits, "digits"))
    assert evaluation.disentanglement(lambda x: x.flatten(1), WHOLE).examples == 12


def test_embeddings_have_the_names_of_files(model: VAE, tmp_path: Path) -> None:
    for i in range(12):
        place = tmp_path / f"{'ab'[i % 2]}/{i:02d}.png"
        place.parent.mkdir(exist_ok=True)
        image.fromarray(X[i, 0].numpy()).save(place)
    found = evaluation.embed(model, f"folder:{tmp_path}")
    assert found.names is not None and found.labels is not None and len(found.names) == len(found.values) >= 2
    for name, label, row in zip(found.names, found.labels, found.values, strict=True):
        x = X[int(Path(name).stem)].float().unsqueeze(0) / 255
        assert torch.allclose(evaluation.representation(model, x)[0], row) and name[0] == "ab"[int(label)]


def test_pictures_of_every_form(model: VAE, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiles(panels: list[Panel], *_: object, **__: object) -> torch.Tensor:
        return torch.cat([panel.tiles.flatten() for panel in panels])

    for module in (pictures.images, pictures.latents):
        monkeypatch.setattr(module, "save_sheet", tiles)
    x = WHOLE.batch(slice(None))
    pairs = x.unflatten(0, (6, 2))
    cases: list[tuple[Callable[[object], object], torch.Tensor]] = [
        (lambda data: pictures.grid(data, "x.png"), x),
        (lambda data: pictures.reconstructions(model, data, "x.png"), x),
        (lambda data: pictures.comparison({"one": data}, "x.png"), x),  # type: ignore[dict-item]
        (lambda data: pictures.interpolation(model, data, "x.png", steps=2), pairs),
    ]
    for draw, tensor in cases:
        wanted = draw(tensor)
        for form in ("arrays", "list", "torch", "Subset", "DataLoader"):
            assert torch.equal(draw(FORMS[form]), wanted)  # type: ignore[arg-type]
    one, other = (pictures.traversal(model, data, "x.png", [0], steps=2) for data in (x[:1], X[:1].numpy()))
    assert torch.equal(one, other)  # type: ignore[arg-type]
    many = from_tensors(torch.rand(40, 1, 4, 4))
    assert len(examples_of(model, many)[0]) == 16  # of a large set


def test_comparisons_hold_out_a_tenth_of_own_data(tmp_path: Path) -> None:
    (row,) = compare(["vae"], data=(X.numpy(), Y), steps=2, samples=2, device="cpu", out=tmp_path)
    assert not isinstance(row, Failure) and row.report.examples == 1 and row.report.split == "test"
    again = list(compare(["vae"], data=from_tensors((X, Y)), steps=2, samples=2, device="cpu", out=tmp_path))
    assert len(list(tmp_path.iterdir())) == 1 and again[0].report.bound == row.report.bound  # type: ignore[union-attr]
    list(compare(["vae"], data=255 - X, steps=2, samples=2, device="cpu", out=tmp_path))
    assert len(list(tmp_path.iterdir())) == 2  # other data are another run
