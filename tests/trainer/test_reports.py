"""What the training loop reports, keeps as best, refuses, and does about numbers that are not finite."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.runs import equal, fit, small_data, small_recipe, trainer, with_bernoulli_on_grey
from torch import Tensor

from vaezoo.core import ELBO, VAE, Inference
from vaezoo.data import from_tensors
from vaezoo.errors import ContextError, DataError, NonFiniteLossError, RecipeError, ShapeError, SupportError
from vaezoo.objectives import WeightedObjective
from vaezoo.recipe import Recipe, read_recipe
from vaezoo.trainer import Trainer, build_model, choose_device, held_out_figures, loop
from vaezoo.trainer import stage_run as stage
from vaezoo.trainer.batches import BatchStream
from vaezoo.trainer.checkpoints import Best

CPU = torch.device("cpu")


# Metrics


def lines(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, float | None]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def test_metrics_have_no_clock_and_timing_has_one(tmp_path: Path) -> None:
    recipe = small_recipe(steps=230, rate_warmup=100)
    run = fit(trainer(recipe, tmp_path, held_out=small_data(recipe, 12, "validation")))
    assert lines(tmp_path) == run.history and run.folder == tmp_path
    training = [line for line in run.history if "distortion" in line]
    assert [line["step"] for line in training] == [100, 200, 230]
    assert set(training[0]) == {"step", "stage", "distortion", "rate", "bound", "rate_weight", "learning_rate"}
    for line in training:
        assert line["bound"] == pytest.approx(-(line["distortion"] or 0) - (line["rate"] or 0), rel=1e-5)
    validation = [line for line in run.history if "validation_bound" in line]
    assert [line["step"] for line in validation] == [*range(11, 221, 11), 230]
    assert [set(line) for line in lines(tmp_path, "timing.jsonl")] == [{"step", "images_per_second"}] * 3


def test_the_terms_and_losses_of_a_variant_are_reported() -> None:
    assert {"total_correlation", "loss_model", "loss_critic"} <= set(
        fit(trainer(small_recipe("factor-vae"))).history[0]
    )
    assert {"codebook", "commitment"} <= set(fit(trainer(small_recipe("vq-vae"))).history[0])


def test_grey_pixels_under_a_bernoulli_have_no_bound(tmp_path: Path) -> None:
    recipe, data = with_bernoulli_on_grey()
    run = fit(trainer(recipe, tmp_path, data=data, held_out=small_data(recipe, 12, "validation")))
    for line in run.history:
        assert line.get("bound") is None and line.get("validation_bound") is None
        assert "distortion" in line or "validation_distortion" in line
    assert '"bound": null' in (tmp_path / "metrics.jsonl").read_text()
    bound, distortion, _ = held_out_figures(run.model, small_data(recipe, 12, "validation"), recipe, CPU)
    distortions = [value for line in run.history if (value := line.get("validation_distortion")) is not None]
    assert bound == -math.inf and distortion == min(distortions)


def test_one_grey_image_is_enough_to_lose_the_bound() -> None:
    recipe, _ = with_bernoulli_on_grey(steps=3)
    images = torch.zeros(1500, 1, 4, 4)
    images[-1, 0, 0, 0] = 0.5
    assert fit(trainer(recipe, data=from_tensors(images))).history[0]["bound"] is None
    assert fit(trainer(recipe, data=from_tensors(images.round()))).history[0]["bound"] is not None


def test_trackers_hear_finite_figures_and_cannot_end_a_run() -> None:
    heard: list[dict[str, float]] = []
    closed: list[bool] = []

    class Listener:
        def start(self, name: str, steps: int, done: int) -> None:
            raise RuntimeError("broken")

        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            heard.append(dict(metrics))

        def close(self) -> None:
            closed.append(True)

    recipe, data = with_bernoulli_on_grey()
    chosen = trainer(recipe, data=data, held_out=small_data(recipe, 12, "validation"), trackers=(Listener(),))
    with pytest.warns(UserWarning, match=r"Listener\.start failed"):
        run = fit(chosen)
    plain = fit(trainer(recipe, data=data, held_out=small_data(recipe, 12, "validation")))
    assert equal(run.model, plain.model) and closed == [True]
    assert "images_per_second" in heard[-2] and "validation_distortion" in heard[-1]
    assert all(math.isfinite(value) for metrics in heard for value in metrics.values())


def test_trackers_are_closed_when_a_run_fails() -> None:
    closed: list[bool] = []

    class Listener:
        def start(self, name: str, steps: int, done: int) -> None: ...

        def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

        def close(self) -> None:
            closed.append(True)

    recipe = small_recipe()
    with pytest.raises(ShapeError):
        data = small_data(recipe)
        chosen = trainer(recipe, data=data, trackers=(Listener(),))
        chosen.model.shape = (1, 5, 5)
        fit(chosen)
    assert closed == [True]


# The best weights


def test_the_best_weights_are_those_with_the_highest_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(steps=60, learning_rate=0.03, average=0.5)
    held_out = small_data(recipe, 12, "validation")
    weights: list[dict[str, Tensor]] = []

    def figures(model: VAE, feed: BatchStream, density: bool, ranks: object) -> tuple[float, float, float]:
        assert density and not model.training
        weights.append({key: value.clone() for key, value in model.state_dict().items()})
        return -10.0 - abs(len(weights) - 5), 9.0, 1.0

    plain = fit(trainer(recipe, held_out=held_out))
    monkeypatch.setattr(loop, "feed_figures", figures)
    run = fit(trainer(recipe, held_out=held_out))
    bounds = [value for line in run.history if (value := line.get("validation_bound")) is not None]
    assert len(bounds) == len(weights) == 20 and bounds.index(max(bounds)) == 4
    after = run.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in weights[4].items())
    bounds = [value for line in plain.history if (value := line.get("validation_bound")) is not None]
    assert held_out_figures(plain.model, held_out, recipe, CPU)[0] == max(bounds)


def test_what_counts_as_better() -> None:
    model = torch.nn.Linear(1, 1)
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
        best.offer(bound, distortion, model)  # type: ignore[arg-type]  # any module with tensors will do
        assert best.score == expected


# What is refused before the first step


def test_data_outside_the_support_is_named_before_the_first_step(tmp_path: Path) -> None:
    recipe, _ = with_bernoulli_on_grey()
    images = torch.rand(1200, 1, 4, 4)
    images[1100] *= 2
    with pytest.raises(SupportError, match=r"The train set 'mine' does not fit the model: .*\[0, 1\]"):
        fit(trainer(recipe, tmp_path, data=from_tensors(images, "mine")))
    held_out = from_tensors(-images, "mine", split="validation")
    with pytest.raises(SupportError, match="The validation set 'mine'"):
        fit(trainer(recipe, tmp_path, data=from_tensors(images[:1000]), held_out=held_out))
    assert not (tmp_path / "metrics.jsonl").exists()


def test_data_of_another_shape_is_named() -> None:
    recipe = small_recipe()
    chosen = trainer(recipe)
    other = from_tensors(torch.zeros(3, 1, 5, 5), "other")
    with pytest.raises(ShapeError, match="'other' does not fit the model"):
        fit(Trainer(recipe, chosen.model, other))


def test_a_context_that_does_not_fit() -> None:
    recipe = small_recipe("cvae")
    unlabelled = from_tensors(torch.zeros(9, 1, 4, 4), "bare")
    with pytest.raises(RecipeError, match=r"data\.context = true, but the data set 'bare' has neither labels nor"):
        build_model(recipe, unlabelled)
    chosen = trainer(recipe)
    with pytest.raises(ContextError, match="no context"):
        Trainer(small_recipe("vae"), chosen.model, chosen.data)
    more = from_tensors((torch.zeros(9, 1, 4, 4), torch.arange(9)), "more")
    with pytest.raises(ContextError, match="width 9; the model takes one of width 3"):
        Trainer(recipe, chosen.model, chosen.data, held_out=more)
    fewer = from_tensors((torch.zeros(9, 1, 4, 4), torch.zeros(9, dtype=torch.int64)), "fewer", split="validation")
    assert fit(Trainer(recipe, chosen.model, chosen.data, held_out=fewer)).history


def test_devices() -> None:
    assert choose_device("cpu") == CPU and choose_device() is not None
    for name in ("tpu9", "cuda:99", "", "meta:0:0"):
        with pytest.raises(DataError, match="device"):
            choose_device(name)


# What must not spoil the weights


class Poison(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * math.inf


def flag_from_the_start(patch: pytest.MonkeyPatch) -> None:
    """Gives every stage the flag that it has on a GPU."""
    build = stage.StageRun.__init__

    def with_flag(run: stage.StageRun, *values: Any, **named: Any) -> None:  # whatever it is called with
        build(run, *values, **named)
        run.defer_checks()

    patch.setattr(stage.StageRun, "__init__", with_flag)


@pytest.fixture(params=[False, True], ids=["at once", "as on a GPU"])
def late(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a run look for what is not finite after each step, or as it does on a GPU, when it reads its figures."""
    if request.param:
        flag_from_the_start(monkeypatch)


def poisoned(recipe: Recipe, folder: Path | None, kind: str, at: int) -> tuple[str, VAE, VAE]:
    """Trains until step `at` is made non-finite; returns the message, the model, and one trained until just before."""
    chosen = trainer(recipe, folder)
    report = WeightedObjective.report

    def spoilt(self: WeightedObjective, model: VAE, inference: Inference, step: Tensor | None) -> ELBO:
        elbo = report(self, model, inference, step)
        if step is None or int(step) + 1 != at:
            return elbo
        if kind == "gradient":
            return replace(elbo, losses={"model": Poison.apply(elbo.losses["model"])})
        bad = torch.zeros_like(elbo.rate)
        bad[2] = math.nan
        return replace(elbo, rate=elbo.rate + bad, losses={"model": elbo.losses["model"] + bad})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightedObjective, "report", spoilt)
        with pytest.raises(NonFiniteLossError) as caught:
            fit(chosen)
    reference = trainer(recipe)
    reference._initialize(0)
    run = stage.StageRun(reference.model.train(), recipe.stages[0], reference._feed, offset=0)
    for _ in range(at - 1):
        run.advance()
    return str(caught.value), chosen.model, reference.model


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, accumulation: int) -> None:
    recipe = small_recipe(accumulation=accumulation)
    text, model, good = poisoned(recipe, tmp_path, "rate", 7)
    images = small_feed(recipe).indices(6 * accumulation)[2].item()
    batch = 6 * accumulation
    place = f"step 7, batch {batch % 5 + 1} of 5 in epoch {batch // 5 + 1}, training images [{images}]"
    assert text.startswith(f"The rate became non-finite at {place}. The update was not applied.")
    assert equal(model, good)
    found = loop.checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None and found[0].name == "step-000000006"
    saved = found[1].tensors["model"]
    assert all(torch.equal(value, saved[key]) for key, value in good.state_dict().items())


def small_feed(recipe: Recipe) -> BatchStream:
    return BatchStream(small_data(recipe), recipe.stages[0].batch_size, CPU, seed=recipe.seed, context=0)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_spoils_nothing(clip: float) -> None:
    text, model, good = poisoned(small_recipe(clip=clip), None, "gradient", 3)
    assert text.startswith("The gradient of encoder.") and "at step 3, batch 3 of 5 in epoch 1." in text
    assert "train with a folder" in text and equal(model, good)


@pytest.mark.parametrize("variant", ["vae", "vq-vae", "factor-vae"])
def test_a_flag_that_is_never_raised_changes_nothing(variant: str) -> None:
    recipe = small_recipe(variant, average=0.9)
    plain = fit(trainer(recipe))
    with pytest.MonkeyPatch.context() as patch:
        flag_from_the_start(patch)
        flagged = fit(trainer(recipe))
    assert equal(plain.model, flagged.model) and plain.history == flagged.history


def test_a_raised_flag_keeps_codes_and_averages() -> None:
    recipe = small_recipe("vq-vae", average=0.9)
    chosen = trainer(recipe)
    chosen._initialize(0)
    run = stage.StageRun(chosen.model.train(), recipe.stages[0], chosen._feed, offset=0)
    run.defer_checks()
    for _ in range(11):
        run.advance()
    before = {name: value.clone() for name, value in run.tensors()["model"].items()}
    averages = {name: value.clone() for name, value in run.tensors()["averages"].items()}
    run.flag.value.fill_(1.0)
    for _ in range(12):
        run.advance()
    assert all(torch.equal(value, before[name]) for name, value in run.tensors()["model"].items())
    assert all(torch.equal(value, averages[name]) for name, value in run.tensors()["averages"].items())
    with pytest.raises(NonFiniteLossError, match=r"step 12, .* but not when the step was repeated"):
        run.settle()
    assert run.done == 11


# What is noticed at the end


def test_silent_latents_are_noticed() -> None:
    tables = small_recipe("beta-vae").as_dict() | {"options": {"beta": 1000.0}}
    recipe = read_recipe(tables, steps=150, learning_rate=0.02)
    with pytest.warns(UserWarning, match=r"[01] of 3 latents are active") as caught:
        run = trainer(recipe).fit()
    assert caught[0].filename == __file__, "a warning points to the caller's own line"
    assert len(run.notes) == 1 and "rate_warmup" in run.notes[0]
    assert fit(trainer(small_recipe("vq-vae"))).notes == []


def test_gradients_of_before_count_for_nothing() -> None:
    recipe = small_recipe()
    chosen = trainer(recipe)
    for parameter in chosen.model.parameters():
        parameter.grad = torch.full_like(parameter, 5.0)
    assert equal(fit(chosen).model, fit(trainer(recipe)).model)
