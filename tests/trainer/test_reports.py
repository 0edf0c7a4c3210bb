"""Metrics, best weights, refused data and non-finite numbers in the training loop."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from support.runs import equal, fit, small_data, small_recipe, trainer, with_bernoulli_on_grey
from torch import Tensor

from vaezoo.core import ELBO, VAE, Inference
from vaezoo.data import from_tensors
from vaezoo.errors import ContextError, DataError, NonFiniteLossError, RecipeError, ShapeError, SupportError
from vaezoo.objectives import WeightedObjective
from vaezoo.recipe import Recipe, read_recipe
from vaezoo.trainer import Run, Trainer, build_model, choose_device, held_out_figures, loop
from vaezoo.trainer.batches import BatchStream
from vaezoo.trainer.checkpoints import Best
from vaezoo.trainer.parallel import Engine
from vaezoo.trainer.stage_run import StageRun
from vaezoo.trainer.tracking import Tracker

CPU = torch.device("cpu")


def test_metrics_have_no_clock_and_timing_has_one(tmp_path: Path) -> None:
    recipe = small_recipe(steps=230, rate_warmup=100)
    run = fit(trainer(recipe, tmp_path, held_out=small_data(recipe, 12, "validation")))
    texts = ((tmp_path / name).read_text() for name in ("metrics.jsonl", "timing.jsonl"))
    metrics, timing = ([json.loads(line) for line in text.splitlines()] for text in texts)
    assert metrics == run.history and run.folder == tmp_path
    training = [line for line in run.history if "distortion" in line]
    assert [line["step"] for line in training] == [100, 200, 230]
    assert set(training[0]) == {"step", "stage", "distortion", "rate", "bound", "rate_weight", "learning_rate"}
    for line in training:
        assert line["bound"] == pytest.approx(-(line["distortion"] or 0) - (line["rate"] or 0), rel=1e-5)
    validation = [line for line in run.history if "validation_bound" in line]
    assert [line["step"] for line in validation] == [*range(11, 221, 11), 230]
    assert [set(line) for line in timing] == [{"step", "images_per_second"}] * 3


def test_gray_pixels_under_a_bernoulli_have_no_bound_and_trackers_receive_finite_figures(tmp_path: Path) -> None:
    tracker = Mock(spec=Tracker)
    recipe, data = with_bernoulli_on_grey()
    held_out = small_data(recipe, 12, "validation")
    chosen = trainer(recipe, tmp_path, data=data, held_out=held_out, trackers=(tracker,))
    run = fit(chosen)
    for line in run.history:
        assert line.get("bound") is None and line.get("validation_bound") is None
        assert "distortion" in line or "validation_distortion" in line
    assert '"bound": null' in (tmp_path / "metrics.jsonl").read_text()
    bound, distortion, _ = held_out_figures(run.model, held_out, recipe, CPU)
    distortions = [value for line in run.history if (value := line.get("validation_distortion")) is not None]
    assert bound == -math.inf and distortion == min(distortions)
    seen = [call.args[1] for call in tracker.log.mock_calls]
    assert "images_per_second" in seen[-2] and "validation_distortion" in seen[-1]
    assert all(math.isfinite(value) for metrics in seen for value in metrics.values())
    chosen.model.shape = (1, 5, 5)
    with pytest.raises(ShapeError):
        fit(chosen, resume=True)
    assert tracker.close.call_count == 2, "it is closed after a failure, too"
    recipe, _ = with_bernoulli_on_grey(steps=3)  # one gray image is enough
    images = torch.zeros(1500, 1, 4, 4)
    images[-1, 0, 0, 0] = 0.5
    assert fit(trainer(recipe, data=from_tensors(images))).history[0]["bound"] is None
    assert fit(trainer(recipe, data=from_tensors(images.round()))).history[0]["bound"] is not None


def test_the_best_weights_are_those_with_the_highest_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(steps=60, learning_rate=0.03, average=0.5)
    held_out = small_data(recipe, 12, "validation")
    weights: list[dict[str, Tensor]] = []

    def bounds(run: Run) -> list[float]:
        return [value for line in run.history if (value := line.get("validation_bound")) is not None]

    def figures(engine: Engine, feed: BatchStream, density: bool, ranks: object) -> tuple[float, float, float]:
        assert density and not engine.model.training
        weights.append({key: value.clone() for key, value in engine.model.state_dict().items()})
        return -10.0 - abs(len(weights) - 5), 9.0, 1.0

    plain = fit(trainer(recipe, held_out=held_out))
    assert held_out_figures(plain.model, held_out, recipe, CPU)[0] == max(bounds(plain))
    monkeypatch.setattr(loop, "feed_figures", figures)
    run = fit(trainer(recipe, held_out=held_out))
    assert len(bounds(run)) == len(weights) == 20 and bounds(run).index(max(bounds(run))) == 4
    after = run.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in weights[4].items())


def test_the_order_of_figures() -> None:
    best = Best()
    for bound, distortion, expected in (
        (math.nan, math.nan, None),
        (-math.inf, math.inf, None),
        (-math.inf, 5.0, (False, -5.0)),
        (-math.inf, 6.0, (False, -5.0)),
        (-math.inf, 4.0, (False, -4.0)),
        (-100.0, 90.0, (True, -100.0)),
        (-math.inf, 1.0, (True, -100.0)),
        (-99.0, 95.0, (True, -99.0)),
        (math.nan, 1.0, (True, -99.0)),
    ):
        best.offer(bound, distortion, torch.nn.Linear(1, 1))  # type: ignore[arg-type]  # any module with tensors
        assert best.score == expected


def test_data_of_another_support_shape_or_context_are_refused(tmp_path: Path) -> None:
    recipe, _ = with_bernoulli_on_grey()
    images = torch.rand(1200, 1, 4, 4)
    images[1100] *= 2
    with pytest.raises(SupportError, match=r"The train set 'mine' does not fit the model: .*\[0, 1\]"):
        fit(trainer(recipe, tmp_path, data=from_tensors(images, "mine")))
    held_out = from_tensors(-images, "mine", split="validation")
    with pytest.raises(SupportError, match="The validation set 'mine'"):
        fit(trainer(recipe, tmp_path, data=from_tensors(images[:1000]), held_out=held_out))
    assert not (tmp_path / "metrics.jsonl").exists()
    recipe = small_recipe("cvae")
    model, data = trainer(recipe).model, small_data(recipe)
    plain = small_recipe()
    with pytest.raises(ShapeError, match="'other' does not fit the model"):
        fit(Trainer(plain, trainer(plain).model, from_tensors(torch.zeros(3, 1, 5, 5), "other")))
    images = torch.zeros(9, 1, 4, 4)
    with pytest.raises(RecipeError, match=r"data\.context = true, but the data set 'bare' has neither labels nor"):
        build_model(recipe, from_tensors(images, "bare"))
    with pytest.raises(ContextError, match="no context"):
        Trainer(plain, model, data)
    with pytest.raises(ContextError, match="width 9; the model takes one of width 3"):
        Trainer(recipe, model, data, held_out=from_tensors((images, torch.arange(9)), "more"))
    fewer = from_tensors((images, torch.zeros(9, dtype=torch.int64)), "fewer", split="validation")
    assert fit(Trainer(recipe, model, data, held_out=fewer)).history


def test_devices() -> None:
    assert choose_device("cpu") == CPU and choose_device() is not None
    for name in ("tpu9", "cuda:99", "", "meta:0:0"):
        with pytest.raises(DataError, match="device"):
            choose_device(name)


def defer_checks(patch: pytest.MonkeyPatch) -> None:
    """Defers the check for non-finite values of every stage, as on a GPU."""
    build = StageRun.__init__

    def with_flag(run: StageRun, *values: Any, **named: Any) -> None:  # whatever it is called with
        build(run, *values, **named)
        run.defer_checks()

    patch.setattr(StageRun, "__init__", with_flag)


@pytest.fixture(params=[False, True], ids=["every step", "deferred"])
def check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        defer_checks(monkeypatch)


def after(recipe: Recipe, steps: int) -> StageRun:
    chosen = trainer(recipe)
    chosen._initialize(0)
    run = StageRun(chosen.model.train(), recipe.stages[0], chosen._feed, offset=0)
    for _ in range(steps):
        run.advance()
    return run


def train_until_failure(recipe: Recipe, folder: Path | None, kind: str, at: int) -> tuple[str, VAE, VAE]:
    """Makes step `at` non-finite; returns the message, the model, and one that was trained until just before."""
    chosen = trainer(recipe, folder)
    report = WeightedObjective.report

    def changed(self: WeightedObjective, model: VAE, inference: Inference, step: Tensor | None) -> ELBO:
        elbo = report(self, model, inference, step)
        if step is None or int(step) + 1 != at:
            return elbo
        if kind == "gradient":
            elbo.losses["model"].register_hook(lambda gradient: gradient * math.inf)
            return elbo
        bad = torch.zeros_like(elbo.rate)
        bad[2] = math.nan
        return replace(elbo, rate=elbo.rate + bad, losses={"model": elbo.losses["model"] + bad})

    with pytest.MonkeyPatch.context() as patch, pytest.raises(NonFiniteLossError) as caught:
        patch.setattr(WeightedObjective, "report", changed)
        fit(chosen)
    return str(caught.value), chosen.model, after(recipe, at - 1).model


@pytest.mark.usefixtures("check")
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_non_finite_loss_stops_the_run(tmp_path: Path, accumulation: int) -> None:
    recipe = small_recipe(accumulation=accumulation)
    text, model, good = train_until_failure(recipe, tmp_path, "rate", 7)
    batch = 6 * accumulation
    images = BatchStream(small_data(recipe), 8, CPU, seed=0, context=0).indices(batch)[2].item()
    place = f"step 7, batch {batch % 5 + 1} of 5 in epoch {batch // 5 + 1}, training images [{images}]"
    assert text.startswith(f"The rate became non-finite at {place}. The update was not applied.")
    assert equal(model, good)
    found = loop.checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None and found[0].name == "step-000000006"
    saved = found[1].tensors["model"]
    assert all(torch.equal(value, saved[key]) for key, value in good.state_dict().items())


@pytest.mark.usefixtures("check")
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_non_finite_gradient_is_not_applied(clip: float) -> None:
    text, model, good = train_until_failure(small_recipe(clip=clip), None, "gradient", 3)
    assert text.startswith("The gradient of encoder.") and "at step 3, batch 3 of 5 in epoch 1." in text
    assert "train with a folder" in text and equal(model, good)


TERMS = {"vq-vae": {"codebook", "commitment"}, "factor-vae": {"total_correlation", "loss_model", "loss_critic"}}


@pytest.mark.parametrize("variant", TERMS)
def test_deferred_checks_and_earlier_gradients_change_no_bit(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(variant, average=0.9)
    plain = fit(trainer(recipe))
    assert TERMS[variant] <= set(plain.history[0]) and (variant != "vq-vae" or plain.notes == [])
    chosen = trainer(recipe)
    for parameter in chosen.model.parameters():
        parameter.grad = torch.full_like(parameter, 5.0)
    defer_checks(monkeypatch)
    deferred = fit(chosen)
    assert equal(plain.model, deferred.model) and plain.history == deferred.history


def test_codes_and_averages_are_kept_after_a_non_finite_loss() -> None:
    run = after(small_recipe("vq-vae", average=0.9), 11)
    run.defer_checks()
    kept = copy.deepcopy({kind: run.tensors()[kind] for kind in ("model", "averages")})
    run.flag.value.fill_(1.0)
    for _ in range(12):
        run.advance()
    for kind, tensors in kept.items():
        assert all(torch.equal(value, tensors[name]) for name, value in run.tensors()[kind].items())
    with pytest.raises(NonFiniteLossError, match=r"step 12, .* but not when the step was repeated"):
        run.settle()
    assert run.done == 11


def test_inactive_latents_are_reported() -> None:
    tables = small_recipe("beta-vae").as_dict() | {"options": {"beta": 1000.0}}
    recipe = read_recipe(tables, steps=150, learning_rate=0.02)
    with pytest.warns(UserWarning, match=r"[01] of 3 latents are active") as caught:
        run = trainer(recipe).fit()
    assert caught[0].filename == __file__, "the warning names the caller's line"
    assert len(run.notes) == 1 and "rate_warmup" in run.notes[0]
