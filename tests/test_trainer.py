"""The one training loop: what a step does, what is measured, what is refused."""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import equal, fit, small_data, small_recipe, trainer
from torch import Tensor

from vaezoo.data import Dataset, from_tensors
from vaezoo.elbo import ELBO, Inference, Warmup, WeightedObjective
from vaezoo.errors import ContextError, DataError, NonFiniteLossError, RecipeError, ShapeError, SupportError
from vaezoo.model import VAE
from vaezoo.recipe import Recipe, Stage, read_recipe
from vaezoo.trainer import Trainer, build_model, choose_device, held_out_figures, loop, optimizers, stage
from vaezoo.trainer.feed import Feed, noise_seed, reseed, stage_steps
from vaezoo.trainer.flag import Flag
from vaezoo.trainer.resume import Best
from vaezoo.trainer.start import make_feed

CPU = torch.device("cpu")


def first_stage(recipe: Recipe, data: Dataset | None = None) -> stage.StageRun:
    """Returns the first stage of a new model, before its first step."""
    data = small_data(recipe) if data is None else data
    model = build_model(recipe, data)
    return stage.StageRun(
        model, recipe.stages[0], make_feed(recipe, model, data, recipe.stages[0].batch_size, CPU), offset=0
    )


def with_bernoulli_on_grey(**train: object) -> tuple[Recipe, Dataset]:
    tables = small_recipe(**train).as_dict()
    recipe = read_recipe(tables | {"data": {"name": "small"}})
    return recipe, small_data(recipe)


# Noise and order


def test_the_seed_decides_everything_and_nothing_else_moves() -> None:
    recipe = small_recipe(average=0.9)
    random.seed(1)
    np.random.seed(1)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    once = fit(trainer(recipe))
    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
    torch.manual_seed(123)
    assert equal(once.model, fit(trainer(recipe)).model)
    other = read_recipe(recipe.as_dict(), seed=1)
    assert not equal(once.model, fit(trainer(other)).model)


def test_noise_is_a_function_of_seed_step_and_micro_batch() -> None:
    seeds = {noise_seed(seed, step, micro) for seed in range(4) for step in range(-5, 20) for micro in range(3)}
    assert len(seeds) == 4 * 25 * 3 and all(0 <= seed < 2**63 for seed in seeds)
    assert noise_seed(0, 0, 0) == 9169699564768075551, "published weights were trained with this"


def test_an_epoch_sees_every_image_once_in_a_new_order() -> None:
    recipe = small_recipe(batch_size=8)
    feed = Feed(small_data(recipe), 8, CPU, seed=0, context=0)
    epochs = [torch.cat([feed.indices(5 * epoch + batch) for batch in range(5)]) for epoch in range(2)]
    assert all(torch.equal(epoch.sort().values, torch.arange(40)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(feed.indices(3), epochs[0][24:32])


@pytest.mark.parametrize(
    ("table", "examples", "steps"),
    [
        ({"steps": 7}, 5, 7),
        ({"epochs": 2, "batch_size": 8}, 40, 10),
        ({"epochs": 2, "batch_size": 9}, 40, 8),
        ({"epochs": 2, "batch_size": 100}, 40, 2),
        ({"epochs": 3, "batch_size": 8, "accumulation": 2}, 40, 7),
        ({"epochs": 1, "batch_size": 8, "accumulation": 100}, 40, 1),
    ],
)
def test_how_many_steps_there_are(table: dict[str, int], examples: int, steps: int) -> None:
    assert stage_steps(Stage(**table), examples) == steps


@pytest.mark.parametrize("count", [1, 2, 5])
def test_tiny_sets_and_batches_larger_than_the_data(count: int) -> None:
    recipe = small_recipe(batch_size=64, steps=3)
    run = fit(trainer(recipe, data=small_data(recipe, count)))
    assert all(torch.isfinite(parameter).all() for parameter in run.model.parameters())


def test_labels_become_one_hot_and_vectors_stay() -> None:
    x = torch.rand(6, 4)
    feed = Feed(from_tensors((x, torch.tensor([0, 2, 1, 1, 0, 2]))), 3, CPU, seed=0, context=3)
    _, c = feed.take(torch.tensor([1, 2]))
    assert c is not None and c.tolist() == [[0, 0, 1], [0, 1, 0]]
    vectors = torch.rand(6, 2, dtype=torch.float64)
    feed = Feed(from_tensors((x, vectors)), 3, CPU, seed=0, context=2)
    _, c = feed.take(torch.tensor([4, 0]))
    assert c is not None and torch.equal(c, vectors[[4, 0]].float())


def test_vectors_as_context_train() -> None:
    recipe = small_recipe("cvae", steps=3)
    x = small_data(recipe).batch(torch.arange(40))
    data = from_tensors(((x > 0.5).float(), torch.rand(40, 7)), "small")
    assert fit(trainer(recipe, data=data)).model.context == 7


# One step


def test_accumulated_batches_are_one_batch() -> None:
    """On a model without noise: a VQ-VAE whose codes are never revived."""
    given = small_recipe("vq-vae").as_dict() | {"options": {"codes": 5, "revival": 0.0}}
    runs = []
    for batch, accumulation in ((16, 1), (8, 2), (4, 4)):
        recipe = read_recipe(
            given | {"train": {"steps": 2, "batch_size": batch, "accumulation": accumulation, "epsilon": 0.01}}
        )
        run = first_stage(recipe)
        run.advance()
        run.advance()
        runs.append({key: value.double() for key, value in run.model.state_dict().items()})
        assert run.counted == 2 * accumulation
    for other in runs[1:]:
        for key, value in runs[0].items():
            torch.testing.assert_close(other[key], value, rtol=1e-4, atol=1e-5)


def test_a_step_is_that_of_a_plain_loop() -> None:
    recipe = small_recipe(batch_size=8, accumulation=2, clip=0.3, warmup=4, learning_rate=0.02, epsilon=1e-3)
    run = first_stage(recipe)
    plain = build_model(recipe, small_data(recipe)).train()
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.0, eps=1e-3)
    for done in range(3):
        optimizer.zero_grad()
        for micro in range(2):
            reseed(CPU, recipe.seed, done, micro)
            x, _ = run.feed.take(run.feed.indices(2 * done + micro))
            (plain.objective(plain, x).losses["model"].mean() / 2).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.3)
        optimizer.param_groups[0]["lr"] = 0.02 * (done + 1) / 4
        optimizer.step()
        run.model.train()
        run.advance()
        for ours, theirs in zip(run.model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_learning_rates_rise_and_fall() -> None:
    cosine = Stage(
        steps=100, learning_rate=0.1, final_learning_rate=0.01, schedule="cosine", learning_rates={"critic": 1.0}
    )
    rates = [optimizers.learning_rate(cosine, "model", done, 100) for done in range(101)]
    assert rates[0] == 0.1 and rates[50] == pytest.approx(0.055) and rates[100] == pytest.approx(0.01)
    assert all(a > b for a, b in pairwise(rates))
    assert optimizers.learning_rate(cosine, "critic", 100, 100) == pytest.approx(0.1)
    warm = Stage(steps=100, learning_rate=0.1, warmup=10)
    rates = [optimizers.learning_rate(warm, "model", done, 100) for done in range(20)]
    assert rates[0] == pytest.approx(0.01) and rates[9:] == [0.1] * 11


def test_each_player_has_its_own_learning_rate() -> None:
    run = first_stage(small_recipe("factor-vae", learning_rate=1e-2, learning_rates={"critic": 1e-9}))
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    run.advance()
    moved = {key: (value - before[key]).abs().max().item() for key, value in run.model.state_dict().items()}
    assert max(value for key, value in moved.items() if "critic" in key) < 1e-7
    assert max(value for key, value in moved.items() if "critic" not in key) > 1e-3


def test_sweep_leaves_no_denormal_moments() -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.ones(4)
    optimizer.step()
    state = optimizer.state[weight]
    state["exp_avg"].copy_(torch.tensor([1e-40, -1e-26, 1e-24, -1.0]))
    state["exp_avg_sq"].copy_(torch.tensor([1e-40, 1e-36, 1e-34, 1.0]))
    optimizers.sweep([optimizer])
    assert state["exp_avg"].tolist()[:2] == [0, 0] and state["exp_avg"][3] == -1 and state["exp_avg"][2] != 0
    assert state["exp_avg_sq"].tolist()[:2] == [0, 0] and state["exp_avg_sq"][2] != 0


def test_bfloat16_keeps_weights_and_figures_in_float32() -> None:
    run = fit(trainer(small_recipe(precision="bf16")))
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}
    assert not equal(run.model, fit(trainer(small_recipe())).model)
    assert all(math.isfinite(value) for value in run.history[-1].values() if value is not None)


def test_averages_are_what_is_returned_once_there_are_any() -> None:
    plain, averaged = (fit(trainer(small_recipe(average=average))).model for average in (0.0, 0.9))
    assert not equal(plain, averaged)
    plain, averaged = (fit(trainer(small_recipe(average=average, steps=5))).model for average in (0.0, 0.9))
    assert equal(plain, averaged), "five steps are too few for an average, and not for training"


# Stages


def test_a_part_starts_from_data_before_the_first_stage_that_trains_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[int, list[str]]] = []
    initialize = VAE.initialize

    def watched(self: VAE, batches: Sequence[tuple[Tensor, Tensor | None]], parts: Sequence[str] | None = None) -> None:
        started.append((len(chosen.history), list(parts or ())))
        initialize(self, batches, parts)

    monkeypatch.setattr(VAE, "initialize", watched)
    stages = [{"steps": 2, "batch_size": 8, "train": parts} for parts in (["decoder"], ["decoder", "prior"], ["prior"])]
    chosen = trainer(small_recipe("vade", stages=stages))
    before = chosen.model.prior.loc.detach().clone()
    fit(chosen)
    assert started == [(0, ["encoder", "decoder", "objective"]), (1, ["prior"])]
    assert (chosen.model.prior.loc.detach() - before).abs().max() > 0.01  # two steps of 1e-3 are not that far
    started.clear()
    chosen = trainer(small_recipe("vae", stages=[{"steps": 2, "batch_size": 8}] * 2))
    fit(chosen)
    assert started == [(0, ["encoder", "decoder", "prior", "objective"])]


@pytest.mark.parametrize("variant", ["vae", "vq-vae"])
def test_a_stage_trains_the_parts_that_it_names(variant: str) -> None:
    chosen = trainer(small_recipe(variant, stages=[{"steps": 3, "batch_size": 8, "train": ["decoder"]}]))
    # What starts from data moves before the first step.
    chosen._initialize = lambda *_: None  # type: ignore[method-assign]
    before = {key: value.clone() for key, value in chosen.model.state_dict().items()}
    fit(chosen)
    after = chosen.model.state_dict()
    assert {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])} == {"decoder"}
    assert all(parameter.requires_grad for parameter in chosen.model.parameters())


def test_what_was_frozen_stays_frozen() -> None:
    recipe = small_recipe(stages=[{"steps": 3, "train": ["encoder"]}, {"steps": 3}])
    model = build_model(recipe, small_data(recipe))
    frozen = next(model.decoder.parameters()).requires_grad_(False)
    before = frozen.clone()
    fit(Trainer(recipe, model, small_data(recipe)))
    assert torch.equal(before, frozen) and not frozen.requires_grad


def test_a_stage_that_trains_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"stage\[0\]\.train = \['prior'\] leaves nothing to train"):
        fit(trainer(small_recipe(stages=[{"steps": 3, "train": ["prior"]}, {"steps": 3}])))


def test_stages_change_the_objective_and_its_schedule() -> None:
    stages: list[dict[str, object]] = [
        {"steps": 4, "options": {"beta": 8.0}, "rate_warmup": 100, "free_bits": 3.0},
        {"steps": 4},
    ]
    seen: list[tuple[float, float, bool]] = []

    class Listener:
        def start(self, name: str, steps: int, done: int) -> None:
            objective = chosen.model.objective
            assert isinstance(objective, WeightedObjective)
            seen.append((float(objective.rate(None)), objective.free_bits, isinstance(objective.rate, Warmup)))

        def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

        def close(self) -> None: ...

    recipe = small_recipe("beta-vae", stages=stages)
    chosen = trainer(recipe, trackers=(Listener(),))
    run = fit(chosen)
    assert seen == [(8.0, 3.0, True), (4.0, 0.0, False)]
    assert run.model.config == build_model(recipe, chosen.data).config
    assert [line["step"] for line in run.history] == [4, 8] and [line["stage"] for line in run.history] == [0, 1]


def test_a_stage_may_not_change_what_an_objective_learns() -> None:
    stages: list[dict[str, object]] = [{"steps": 2}, {"steps": 2, "options": {"critic_hidden": [7]}}]
    with pytest.raises(RecipeError, match="change what the objective learns"):
        fit(trainer(small_recipe("factor-vae", stages=stages)))


@pytest.mark.parametrize("variant", ["iwae", "vq-vae"])
def test_schedules_of_the_rate_need_a_rate_weight(variant: str) -> None:
    recipe = small_recipe(variant, rate_warmup=5, free_bits=1.0, learning_rates={"critc": 0.1})
    with pytest.raises(RecipeError) as caught:
        trainer(recipe)
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"train.rate_warmup and train.free_bits: the objective of {variant!r} has no rate weight")
    assert second.startswith("train.learning_rates.critc:") and second.endswith("Players: model.")


def test_unknown_players_are_named_with_the_known_ones() -> None:
    with pytest.raises(
        RecipeError, match=r"critc: .* no player of this name\. Did you mean 'critic'\? Players: model, c"
    ):
        trainer(small_recipe("factor-vae", learning_rates={"critc": 0.1}))


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

    def figures(model: VAE, feed: Feed, density: bool, ranks: object) -> tuple[float, float, float]:
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
        run.flag = Flag(CPU)

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
    assert text.startswith(f"The rate became non-finite at {place}. No weight was changed by it.")
    assert equal(model, good)
    found = loop.checkpoint.newest(tmp_path / "checkpoints")
    assert found is not None and found[0].name == "step-000000006"
    saved = found[1].tensors["model"]
    assert all(torch.equal(value, saved[key]) for key, value in good.state_dict().items())


def small_feed(recipe: Recipe) -> Feed:
    return Feed(small_data(recipe), recipe.stages[0].batch_size, CPU, seed=recipe.seed, context=0)


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
    run.flag = Flag(CPU)
    for _ in range(11):
        run.advance()
    before = {name: value.clone() for name, value in run.tensors()["model"].items()}
    averages = {name: value.clone() for name, value in run.tensors()["averages"].items()}
    run.flag.watch(torch.tensor(math.nan))
    for _ in range(12):
        run.advance()
    assert all(torch.equal(value, before[name]) for name, value in run.tensors()["model"].items())
    assert all(torch.equal(value, averages[name]) for name, value in run.tensors()["averages"].items())
    with pytest.raises(NonFiniteLossError, match=r"step 12, .* but not a second time"):
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
