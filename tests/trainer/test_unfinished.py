"""Runs that stopped: their models, an earlier end, other settings for the remaining steps, and early stopping."""

import json
import math
from pathlib import Path

import pytest
import torch
from support.runs import equal, fit, small_data, small_recipe, trainer
from torch import Tensor

import vaezoo
from vaezoo.errors import (
    CheckpointError,
    CorruptWeightsError,
    InterruptedTrainingError,
    NonFiniteLossError,
    RecipeError,
)
from vaezoo.recipe import read_recipe
from vaezoo.storage import checkpoint
from vaezoo.trainer import loop
from vaezoo.trainer.batches import BatchStream
from vaezoo.trainer.parallel import Engine
from vaezoo.trainer.stage_run import StageRun


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 5)


def stopped(folder: Path, at: int, monkeypatch: pytest.MonkeyPatch, **settings: object) -> vaezoo.recipe.Recipe:
    """Trains a recipe until it is stopped after step `at`; returns the recipe."""
    recipe = small_recipe(**({"steps": 40, "learning_rate": 0.01} | settings))
    advance = StageRun.advance

    def advance_and_stop(run: StageRun) -> None:
        advance(run)
        if run.done == at:
            chosen._stop.received = 15

    held_out = small_data(recipe, 12, "validation") if recipe.data.validation else None
    chosen = trainer(recipe, folder, held_out=held_out)
    with monkeypatch.context() as patch, pytest.raises(InterruptedTrainingError):
        patch.setattr(StageRun, "advance", advance_and_stop)
        fit(chosen)
    return recipe


@pytest.mark.parametrize("kind", ["last", "averaged", "best"])
def test_a_run_that_stopped_has_a_model(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"data": {"validation": 12}} if kind == "best" else {"average": 0.9} if kind == "averaged" else {}
    recipe = stopped(tmp_path / "run", 23, monkeypatch, **settings)
    saved = checkpoint.read_folder(tmp_path / "run" / "checkpoints" / "step-000000023")
    group = {"last": "model", "averaged": "averages", "best": "best"}[kind]
    for place in ("run", "run/checkpoints", "run/checkpoints/step-000000023"):
        with pytest.warns(UserWarning, match=f"is an unfinished run: loaded its {kind} weights, .*step-000000023"):
            model = vaezoo.load(f"{tmp_path}/{place}")
        state = model.state_dict()
        assert all(torch.equal(state[key], value) for key, value in saved.tensors[group].items())
        assert not model.training and model.config == trainer(recipe).model.config
    assert model.sample(2, seed=0).shape == (2, 1, 4, 4)
    start = read_recipe(recipe.as_dict() | {"init": f"{tmp_path}/run"})
    with pytest.warns(UserWarning, match="unfinished"):
        run = vaezoo.train(start, data=small_data(recipe), validation=small_data(recipe, 9), out=None, trackers=())
    assert run.history


def test_damaged_checkpoints_and_those_of_other_models_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path, 23, monkeypatch)
    path = tmp_path / "checkpoints" / "step-000000023"
    saved = checkpoint.read_folder(path)
    model, config = saved.tensors["model"], saved.state["config"]
    name = next(iter(model))
    for tensors, changed, error, said in (
        (
            {key: value for key, value in model.items() if key != name},
            config,
            CorruptWeightsError,
            f"nothing for {name}",
        ),
        (model | {name: torch.zeros(2, 2)}, config, CorruptWeightsError, "of shape .2, 2. for"),
        (model | {name: model[name] * math.nan}, config, CorruptWeightsError, "NaN or infinite values in"),
        (model, config | {"architecture": {"shape": [1]}}, CorruptWeightsError, "config that is not one of a model"),
        (model, None, CheckpointError, "does not record the model's config"),
    ):
        state = {**saved.state, "config": changed}
        checkpoint.write_folder(path, checkpoint.Checkpoint(tensors={"model": tensors}, state=state))
        with pytest.raises(error, match=said):
            vaezoo.load(path)
    (path / "model.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="Passed over"):
        assert vaezoo.load(f"{tmp_path}/").config == config


def test_fewer_steps_are_the_end_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a constant rate a run that ends early equals one that was planned like that."""
    for folder, end in (("at the checkpoint", 23), ("later", 31)):
        recipe = stopped(tmp_path / folder, 23, monkeypatch, average=0.9)
        shorter = small_recipe(steps=end, learning_rate=0.01, average=0.9)
        run, once = fit(trainer(shorter, tmp_path / folder), extend=True), fit(trainer(shorter))
        assert equal(run.model, once.model) and run.history == once.history
        assert run.extensions == [{"step": 23, "from": 40, "to": end, "recipe": recipe.digest}]
        again = fit(trainer(shorter, tmp_path / folder), resume=True)
        assert equal(again.model, run.model) and again.extensions == run.extensions


def test_after_a_nan_a_run_goes_on_with_a_lower_rate_as_a_recorded_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steep, gentle = (
        small_recipe(steps=30, learning_rate=rate, clip=clip) for rate, clip in ((0.01, 0.0), (0.001, 1.0))
    )
    advance = StageRun.advance

    def advance_or_fail(run: StageRun) -> None:
        if run.done == 17 and run.stage.learning_rate > 0.005:
            raise NonFiniteLossError("The rate became non-finite at step 18.")
        advance(run)

    monkeypatch.setattr(StageRun, "advance", advance_or_fail)
    with pytest.raises(NonFiniteLossError, match=r"train.learning_rate=0.005 train.clip=1.0 --resume --extend --out "):
        fit(trainer(steep, tmp_path))
    with pytest.raises(CheckpointError, match="add --extend to --resume"):
        fit(trainer(gentle, tmp_path), resume=True)
    run = vaezoo.train(gentle, data=small_data(gentle), out=tmp_path, trackers=(), resume=True, extend=True)
    changed = ["train.clip: 0.0 there, 1.0 now", "train.learning_rate: 0.01 there, 0.001 now"]
    record = {"step": 17, "from": 30, "to": 30, "recipe": steep.digest, "changes": changed}
    assert run.extensions == [record]
    assert vaezoo.load(f"{tmp_path}/").config["recipe"]["extensions"] == [record]
    assert run.history[-1]["learning_rate"] == 0.001 and run.history[-1]["step"] == 30
    assert read_recipe(json.loads((tmp_path / "recipe.json").read_text())) == gentle


def figures_of(bounds: list[float], seen: list[int]) -> object:
    """Returns a function in place of `feed_figures`, which gives these bounds in turn."""

    def figures(engine: Engine, feed: BatchStream, density: bool, ranks: object) -> tuple[float, float, float]:
        seen.append(len(seen))
        return bounds[len(seen) - 1], 9.0, 1.0

    return figures


def test_a_stage_ends_when_the_held_out_images_stop_improving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(steps=60, patience=3)  # a measurement every 3 steps
    held_out = small_data(recipe, 12, "validation")
    bounds, seen = [-9.0, -8.0, -8.5, -8.1, -7.0, -7.5, -7.0, -7.1, *[0.0] * 20], list[int]()
    monkeypatch.setattr(loop, "feed_figures", figures_of(bounds, seen))
    weights: dict[int, dict[str, Tensor]] = {}
    advance = StageRun.advance

    def remember(run: StageRun) -> None:
        advance(run)
        weights[run.done] = {key: value.clone() for key, value in run.model.state_dict().items()}

    monkeypatch.setattr(StageRun, "advance", remember)
    run = fit(trainer(recipe, tmp_path, held_out=held_out))
    assert len(seen) == 8 and max(weights) == 24, "three measurements after the best, that of step 15"
    assert all(torch.equal(value, weights[15][key]) for key, value in run.model.state_dict().items())
    assert run.history[-1]["step"] == 24
    again = fit(trainer(recipe, tmp_path, held_out=held_out), resume=True)
    assert len(seen) == 8 and equal(again.model, run.model), "a resumed run stays at its end"
    patient = small_recipe(steps=60, patience=5)
    assert fit(trainer(patient, tmp_path, held_out=held_out), extend=True).history[-1]["step"] > 24
    with pytest.raises(RecipeError, match="patience without held-out images"):
        trainer(recipe)


def test_patience_counts_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = [-1.0, -2.0, -3.0, -4.0, -5.0, *[0.0] * 20]
    monkeypatch.setattr(loop, "feed_figures", figures_of(bounds, seen := list[int]()))
    settings = {"steps": 60, "patience": 4, "data": {"validation": 12}}
    recipe = stopped(tmp_path, 10, monkeypatch, **settings)
    assert len(seen) == 3
    run = fit(trainer(recipe, tmp_path, held_out=small_data(recipe, 12, "validation")), resume=True)
    assert len(seen) == 5 and run.history[-1]["step"] == 15


def test_held_out_data_of_the_callers_own() -> None:
    recipe = small_recipe(data={"validation": 10})
    own = small_data(recipe, 12, "validation")
    data = small_data(recipe)
    run = vaezoo.train(recipe, data=data, validation=own, out=None, trackers=())
    direct = fit(trainer(small_recipe(), data=data, held_out=own))
    assert equal(run.model, direct.model) and run.history == direct.history
    assert run.recipe.data.validation == 0
    counted = vaezoo.train(recipe.as_dict(), data=data, validation=5, out=None, trackers=())
    assert counted.recipe.data.validation == 5
    with pytest.raises(vaezoo.VaezooError, match=r"validation examples of shape \(1, 5, 5\)"):
        vaezoo.train(recipe, data=data, validation=torch.zeros(3, 1, 5, 5), out=None, trackers=())
