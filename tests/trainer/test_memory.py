"""Memory of training and evaluation: batches follow the batch size and the bytes of an example."""

from pathlib import Path

import pytest
import torch
from support.runs import equal, fit, small_data, small_recipe, trainer
from torch import nn

import vaezoo
from vaezoo.core import VAE, memory, rows_at_once
from vaezoo.storage.model_folder import read_model
from vaezoo.trainer import validation


def test_rows_follow_bytes_and_batch_size() -> None:
    assert rows_at_once((1, 28, 28)) == rows_at_once((2,), 500, 128) == 500
    assert rows_at_once((3, 512, 512)) == 5, "16 MiB hold 5 examples of 3 MiB"
    assert rows_at_once((3, 512, 512), 500, 2) == 5
    assert rows_at_once((3, 512, 512), 500, 8) == 8, "the training takes as many"
    assert rows_at_once((3, 512, 512), 500, 9_999) == 500
    assert rows_at_once((1, 28, 28), 500, 2) == 20
    assert rows_at_once((3, 5000, 5000)) == rows_at_once((3, 5000, 5000), 500, 1) == 1


def test_no_part_of_a_run_encodes_or_decodes_more_large_images_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    call = nn.Module.__call__

    def counted(module: nn.Module, *args: object, **named: object) -> object:
        if args and isinstance(args[0], torch.Tensor) and type(module).__name__ in ("GaussianEncoder", "Perceptron"):
            rows.append(args[0].shape[0] * (args[0].shape[1] if args[0].dim() == 3 else 1))
        return call(module, *args, **named)

    monkeypatch.setattr(nn.Module, "__call__", counted)
    monkeypatch.setattr(memory, "BYTES", 5 * 16 * 16 * 4)
    recipe = {
        "variant": "vae",
        "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [1]}, "likelihood": "gaussian"},
        "data": {"name": "large", "validation": 7},
        "train": {"steps": 1, "batch_size": 2},
    }
    images = torch.randint(256, (18, 1, 16, 16), dtype=torch.uint8)
    run = vaezoo.train(recipe, data=images, out=None, trackers=())
    trained, rows[:] = max(rows), []
    report = vaezoo.evaluate(run.model, images[:7], samples=2, batch_size=2)
    assert trained == 5 and report.bound.mean is not None
    assert max(rows) == 2, "draws of the evidence are decoded one by one, too"
    rows.clear()
    vaezoo.evaluate(run.model, images[:7], samples=0)
    assert max(rows) == 5


def test_figures_of_small_images_do_not_depend_on_how_the_set_is_cut() -> None:
    """Mean, rate and distortion of a model whose posterior is a point: equal up to rounding for any batch size."""
    model = vaezoo.create("ae", shape=(1, 4, 4), latent=2, backbone={"name": "mlp", "hidden": [3]})
    x = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(1)).round()
    whole, parts = (vaezoo.evaluate(model, x, samples=0, batch_size=size) for size in (30, 7))
    assert whole.distortion.mean == pytest.approx(parts.distortion.mean, rel=1e-6)
    with pytest.raises(vaezoo.VaezooError, match="batch_size = 0"):
        vaezoo.evaluate(model, x, batch_size=0)


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), MemoryError(), ValueError()])
def test_the_model_is_saved_before_notes_and_none_of_them_ends_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    recipe, saved = small_recipe(), list[bool]()

    def fail(model: VAE, feed: object) -> list[str]:
        saved.append((tmp_path / "run" / "config.json").exists())
        raise error

    monkeypatch.setattr(validation, "note_on_latents", fail)
    run = vaezoo.train(recipe, data=small_data(recipe), out=tmp_path / "run", trackers=())
    assert saved == [True] and run.notes == []
    assert equal(read_model(tmp_path / "run"), run.model)
    assert fit(trainer(recipe)).notes == []
