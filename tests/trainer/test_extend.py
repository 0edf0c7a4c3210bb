"""Extension of a run: allowed changes, records, and equality with a run of that length."""

import json
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from support.runs import equal, fit, small_recipe, trainer

import vaezoo
from vaezoo.errors import CheckpointError
from vaezoo.recipe import Recipe, changes, read_recipe
from vaezoo.storage import checkpoint
from vaezoo.storage.checkpoint import read_folder
from vaezoo.trainer import loop

TWO = [{"steps": 6, "batch_size": 8, "average": 0.9}, {"steps": 6, "batch_size": 8, "learning_rate": 0.01}]


def test_a_finished_run_keeps_a_checkpoint_of_its_last_step(tmp_path: Path) -> None:
    recipe = small_recipe("factor-vae", average=0.9)
    run = fit(trainer(recipe, tmp_path))
    saved = read_folder(tmp_path / "checkpoints" / "step-000000024")
    assert saved.state["done"] == 24 and {"model", "optimizers", "averages"} <= saved.tensors.keys()
    assert set(saved.state["versions"]) == {"vaezoo", "torch", "numpy"} and saved.state["extensions"] == []
    assert Recipe.from_settings(saved.state["recipe"]) == recipe
    assert all(torch.equal(run.model.state_dict()[name], value) for name, value in saved.tensors["averages"].items())
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*.*")}
    again = fit(trainer(recipe, tmp_path), resume=True)
    assert equal(run.model, again.model) and again.history == run.history
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*.*")} == files


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("variant", ["vae", "factor-vae"])
def test_an_extended_run_equals_a_long_run_at_a_constant_rate(
    variant: str, finished: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 6)
    short, long = (small_recipe(variant, steps=steps, average=0.9) for steps in (18, 30))
    fit(trainer(short, tmp_path / "run"))
    if not finished:
        for path in checkpoint.listed(tmp_path / "run" / "checkpoints")[:1]:
            (path / "state.json").unlink()
    with warnings.catch_warnings(record=True, action="always") as caught:
        run = trainer(long, tmp_path / "run").fit(extend=True)
    assert any("Passed over" in str(each.message) for each in caught) is not finished
    once = fit(trainer(long, tmp_path / "once"))
    assert equal(run.model, once.model) and run.history == once.history
    at = 18 if finished else 12
    assert run.extensions == [{"step": at, "from": 18, "to": 30, "recipe": short.digest}]
    saved = read_folder(tmp_path / "run" / "checkpoints" / "step-000000030")
    assert saved.state["extensions"] == run.extensions
    assert read_recipe(json.loads((tmp_path / "run" / "recipe.json").read_text())) == long
    # The run now has the longer recipe, and can be extended again.
    assert fit(trainer(long, tmp_path / "run"), resume=True).extensions == run.extensions
    longest = fit(trainer(small_recipe(variant, epochs=7, steps=0, average=0.9), tmp_path / "run"), extend=True)
    assert [each["to"] for each in longest.extensions] == [30, 35]


def test_only_the_last_stage_may_be_extended(tmp_path: Path) -> None:
    fit(trainer(small_recipe(stages=TWO), tmp_path))
    run = fit(trainer(small_recipe(stages=[TWO[0], TWO[1] | {"steps": 9}]), tmp_path), extend=True)
    assert run.extensions[0] | {"recipe": ""} == {"step": 12, "from": 6, "to": 9, "recipe": ""}
    before = (tmp_path / "recipe.json").read_bytes()
    for stages, said in (
        ([TWO[0] | {"steps": 7}, TWO[1] | {"steps": 9}], "stage.0.steps: 6 there, 7 now"),
        ([TWO[0], TWO[1] | {"steps": 12, "average": 0.9}], "stage.1.average: 0.0 there, 0.9 now"),
        (TWO[:1], "stage.0.steps: 6 there, absent now"),
        ([TWO[0], TWO[1] | {"steps": 12}, TWO[0]], "stage.1.steps: 9 there, 12 now"),
    ):
        with pytest.raises(CheckpointError, match="another number of steps in the last stage, ") as caught:
            fit(trainer(small_recipe(stages=stages), tmp_path), extend=True)
        assert said in str(caught.value)
    with pytest.raises(CheckpointError, match=r"add --extend to --resume"):
        fit(trainer(small_recipe(stages=[TWO[0], TWO[1] | {"steps": 10}]), tmp_path), resume=True)
    with pytest.raises(CheckpointError, match=r"at step 9 of its last stage; got .* after 8\. steps=9 ends"):
        fit(trainer(small_recipe(stages=[TWO[0], TWO[1] | {"steps": 8}]), tmp_path), extend=True)
    assert (tmp_path / "recipe.json").read_bytes() == before, "a refused extension changes nothing"


def test_a_run_with_added_stages_equals_one_that_had_them_from_the_start(tmp_path: Path) -> None:
    short, long = small_recipe(stages=TWO[:1]), small_recipe(stages=[*TWO, TWO[0]])
    fit(trainer(short, tmp_path / "run"))
    with pytest.raises(CheckpointError, match=r"add --extend to --resume"):
        fit(trainer(long, tmp_path / "run"), resume=True)
    run, once = fit(trainer(long, tmp_path / "run"), extend=True), fit(trainer(long, tmp_path / "once"))
    assert equal(run.model, once.model) and run.history == once.history and run.extensions == []
    assert read_recipe(json.loads((tmp_path / "run" / "recipe.json").read_text())) == long


@pytest.mark.filterwarnings("ignore")
def test_extensions_are_in_the_config(tmp_path: Path) -> None:
    train = partial(vaezoo.train, small_recipe().as_dict(), data=torch.eye(16).reshape(16, 1, 4, 4), out=tmp_path)
    assert "extensions" not in train(trackers=(), steps=10).model.config["recipe"]
    train(trackers=(), steps=14, extend=True)
    recorded = vaezoo.load(f"{tmp_path}/").config["recipe"]["extensions"]
    assert [(each["from"], each["to"]) for each in recorded] == [(10, 14)]


def test_changes_are_named_with_their_keys() -> None:
    then = read_recipe("beta-vae-mnist")
    now = read_recipe("beta-vae-mnist", ["beta=2", "architecture.backbone={name='mlp', hidden=[5]}", "validation=7"])
    lines = changes(then, now)
    assert "options.beta: 4.0 there, 2 now" in lines and "data.validation: 0 there, 7 now" in lines
    assert any(line.startswith("architecture.backbone.hidden: ") and line.endswith("[5] now") for line in lines)
    assert Recipe.from_settings({"variant": 1}) is None and Recipe.from_settings(None) is None
