"""`train`: folders, own data, initialization from another model."""

import json

import pytest
import torch

import vaezoo
from vaezoo.errors import CheckpointError, ConfigError, RecipeError
from vaezoo.workflows.train import auto_folder

# Runs of a few steps leave latents inactive.
pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")

TINY = {
    "variant": "vae",
    "architecture": {"latent": 2, "backbone": {"name": "mlp", "hidden": [16]}},
    "data": {"name": "digits", "binarize": "dynamic"},
    "train": {"steps": 20, "batch_size": 32},
}


def images(count):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()


def test_train_writes_a_folder_that_depends_on_recipe_and_seed_alone(tmp_path):
    run = vaezoo.train(TINY, out=tmp_path / "run", trackers=())
    assert torch.equal(vaezoo.load(run.folder).reconstruct(images(3)), run.model.reconstruct(images(3)))
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 20
    assert not any("time" in key or "second" in key for line in lines for key in line)
    assert run.model.config["data"]["name"] == "digits"
    with pytest.raises(CheckpointError, match="already holds a run"):
        vaezoo.train(TINY, out=tmp_path / "run", trackers=())
    with pytest.raises(CheckpointError, match=f"Could not create {run.folder}/config.json/run"):
        vaezoo.train(TINY, out=run.folder / "config.json" / "run", trackers=())
    same, other = (vaezoo.train(TINY, out=tmp_path / str(seed), trackers=(), seed=seed).folder for seed in (0, 1))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run.folder, same, other)]
    assert weights[0] == weights[1] != weights[2]


def test_automatic_folder_is_unused_or_the_last_one_to_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = vaezoo.read_recipe({**TINY, "train": {"steps": 4, "batch_size": 32}})
    folders = [vaezoo.train(recipe, trackers=()).folder.name for _ in range(3)]
    assert folders == ["vae", "vae-2", "vae-3"]
    assert auto_folder(recipe, resume=True).name == "vae-3"


def test_train_on_tensors():
    recipe = {**TINY, "variant": "cvae", "data": {"name": "digits", "context": True}}
    run = vaezoo.train(recipe, data=(images(64), torch.arange(64) % 4), out=None, trackers=())
    assert run.model.context == 4 and run.folder is None
    with pytest.raises(RecipeError, match="labels"):
        vaezoo.train({**TINY, "data": {"name": "x", "context": True}}, data=images(9), out=None, trackers=())


def test_train_from_the_weights_of_another_model(tmp_path):
    start = vaezoo.train(TINY, out=tmp_path / "start", trackers=())
    tuned = vaezoo.train(
        {**TINY, "variant": "iwae", "options": {"samples": 3}, "init": str(start.folder)},
        out=None, trackers=(), steps=1, learning_rate=1e-9,
    )  # fmt: skip
    assert torch.allclose(tuned.model.reconstruct(images(9)), start.model.reconstruct(images(9)), atol=1e-4)
    with pytest.raises(ConfigError, match="does not fit"):
        vaezoo.train({**TINY, "init": str(start.folder)}, out=None, trackers=(), latent=3)
