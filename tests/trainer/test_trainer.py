"""The training loop: noise and order, one step, stages."""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.runs import equal, first_stage, fit, reseed, small_data, small_recipe, trainer
from torch import Tensor

from vaezoo.core import ELBO, VAE, Model, Objective, Part
from vaezoo.data import from_tensors
from vaezoo.errors import RecipeError
from vaezoo.objectives import Warmup, WeightedObjective
from vaezoo.recipe import Recipe, Stage, read_recipe
from vaezoo.trainer import Trainer, build_model, optimizers
from vaezoo.trainer.batches import BatchStream, noise_seed, stage_steps
from vaezoo.trainer.stage_run import StageRun

CPU = torch.device("cpu")


def test_the_seed_determines_the_result_and_no_random_state_changes() -> None:
    def states() -> list[object]:
        return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()]

    recipe, before = small_recipe(average=0.9), states()
    once = fit(trainer(recipe))
    assert states() == before
    torch.manual_seed(123)
    assert equal(once.model, fit(trainer(recipe)).model)
    other = read_recipe(recipe.as_dict(), seed=1)
    assert not equal(once.model, fit(trainer(other)).model)
    seeds = {noise_seed(seed, step, micro) for seed in range(4) for step in range(-5, 20) for micro in range(3)}
    assert len(seeds) == 4 * 25 * 3 and all(0 <= seed < 2**63 for seed in seeds)
    assert noise_seed(0, 0, 0) == 9169699564768075551, "published weights were trained with this"


def test_an_epoch_sees_every_image_once_in_a_new_order() -> None:
    feed = BatchStream(small_data(small_recipe()), 8, CPU, seed=0, context=0)
    epochs = [torch.cat([feed.indices(5 * epoch + batch) for batch in range(5)]) for epoch in range(2)]
    assert all(torch.equal(epoch.sort().values, torch.arange(40)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(feed.indices(3), epochs[0][24:32])


def test_the_number_of_steps() -> None:
    assert stage_steps(Stage(steps=7), 40) == 7
    for batch, accumulation, steps in ((9, 1, 12), (100, 1, 3), (8, 2, 7), (8, 100, 1)):
        assert stage_steps(Stage(epochs=3, batch_size=batch, accumulation=accumulation), 40) == steps


@pytest.mark.parametrize("count", [1, 5])
def test_tiny_sets_and_batches_larger_than_the_data(count: int) -> None:
    recipe = small_recipe(batch_size=64, steps=3)
    run = fit(trainer(recipe, data=small_data(recipe, count)))
    assert all(torch.isfinite(parameter).all() for parameter in run.model.parameters())


def test_the_context_is_one_hot_labels_or_vectors() -> None:
    recipe, vectors = small_recipe("cvae", steps=3), torch.rand(40, 7, dtype=torch.float64)
    labelled = small_data(recipe)
    x = labelled.images.round()
    _, c = BatchStream(labelled, 3, CPU, seed=0, context=3).take(torch.tensor([2, 4]))
    assert c is not None and c.tolist() == [[0, 0, 1], [0, 1, 0]]
    many = from_tensors((x[:2], torch.tensor([99_999, -1])), classes=100_000)  # a table of all vectors takes 40 GB
    _, c = BatchStream(many, 2, CPU, seed=0, context=100_000).take(torch.tensor([0, 1]))
    assert c is not None and c.nonzero().tolist() == [[0, 99_999]] and c.dtype == torch.float32
    data = from_tensors((x, vectors))
    _, c = BatchStream(data, 3, CPU, seed=0, context=7).take(torch.tensor([4, 0]))
    assert c is not None and torch.equal(c, vectors[[4, 0]].float())
    assert fit(trainer(recipe, data=data)).model.context == 7


def test_accumulated_batches_are_one_batch() -> None:
    """On a model without noise: a VQ-VAE whose codes are never revived."""
    runs = []
    for batch, accumulation in ((16, 1), (8, 2), (4, 4)):
        recipe = small_recipe("vq-vae", steps=2, batch_size=batch, accumulation=accumulation, epsilon=0.01)
        run = first_stage(read_recipe(recipe.as_dict() | {"options": {"codes": 5, "revival": 0.0}}))
        run.advance(), run.advance()
        runs.append(run.model.state_dict())
        assert run.counted == 2 * accumulation
    for other in runs[1:]:
        torch.testing.assert_close(other, runs[0], rtol=1e-4, atol=1e-5)


def test_a_step_is_that_of_a_plain_loop() -> None:
    recipe = small_recipe(batch_size=8, accumulation=2, clip=0.3, warmup=4, learning_rate=0.02, epsilon=1e-3)
    run = first_stage(recipe)
    plain = build_model(recipe, small_data(recipe)).train()
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.0, eps=1e-3)
    for done in range(3):
        optimizer.zero_grad()
        for micro in range(2):
            reseed(recipe.seed, done, micro)
            x, _ = run.feed.take(run.feed.indices(2 * done + micro))
            (plain.objective(plain, x).losses["model"].mean() / 2).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.3)
        optimizer.param_groups[0]["lr"] = 0.02 * (done + 1) / 4
        optimizer.step()
        run.model.train()
        run.advance()
        for ours, theirs in zip(run.model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_learning_rates_rise_and_fall_and_each_player_has_its_own() -> None:
    down = {"final_learning_rate": 0.01, "schedule": "cosine", "learning_rates": {"critic": 1.0}}
    cosine = Stage(steps=100, learning_rate=0.1, **down)
    rates = [optimizers.learning_rate(cosine, "model", done, 100) for done in range(101)]
    assert rates[0] == 0.1 and rates[50] == pytest.approx(0.055) and rates[100] == pytest.approx(0.01)
    assert all(a > b for a, b in pairwise(rates))
    assert optimizers.learning_rate(cosine, "critic", 100, 100) == pytest.approx(0.1)
    warm = Stage(steps=100, learning_rate=0.1, warmup=10)
    rates = [optimizers.learning_rate(warm, "model", done, 100) for done in range(20)]
    assert rates[0] == pytest.approx(0.01) and rates[9:] == [0.1] * 11
    run = first_stage(small_recipe("factor-vae", learning_rate=1e-2, learning_rates={"critic": 1e-9}))
    before = {name: value.detach().clone() for name, value in run.model.named_parameters()}
    run.advance()
    moved = {name: (value - before[name]).abs().max() for name, value in run.model.named_parameters()}
    assert max(value for name, value in moved.items() if "critic" in name) < 1e-7
    assert max(value for name, value in moved.items() if "critic" not in name) > 1e-3


def test_denormal_moments_are_zeroed() -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.grad = torch.ones(4)
    optimizer.step()
    state = optimizer.state[weight]
    state["exp_avg"].copy_(torch.tensor([1e-40, -1e-26, 1e-24, -1.0]))
    state["exp_avg_sq"].copy_(torch.tensor([1e-40, 1e-36, 1e-34, 1.0]))
    optimizers.zero_denormals([optimizer])
    assert state["exp_avg"].tolist()[:2] == [0, 0] and state["exp_avg"][3] == -1 and state["exp_avg"][2] != 0
    assert state["exp_avg_sq"].tolist()[:2] == [0, 0] and state["exp_avg_sq"][2] != 0


def test_bfloat16_and_averages_change_the_weights_and_not_their_type() -> None:
    plain, short = (fit(trainer(small_recipe(steps=steps))).model for steps in (24, 5))
    run = fit(trainer(small_recipe(precision="bf16")))
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32} and not equal(run.model, plain)
    assert all(math.isfinite(value) for value in run.history[-1].values() if value is not None)
    assert not equal(fit(trainer(small_recipe(average=0.9))).model, plain)
    assert equal(fit(trainer(small_recipe(average=0.9, steps=5))).model, short), "too few steps for an average"


def test_a_part_is_initialized_before_the_first_stage_that_trains_it(monkeypatch: pytest.MonkeyPatch) -> None:
    started, initialize = list[tuple[int, int, Sequence[str]]](), VAE.initialize

    def watched(self: VAE, batches: Sequence[tuple[Tensor, Tensor | None]], parts: Sequence[str]) -> None:
        started.append((len(chosen.history), sum(len(x) for x, _ in batches), parts))
        initialize(self, batches, parts)

    monkeypatch.setattr(VAE, "initialize", watched)
    stages = [{"steps": 2, "batch_size": 8, "train": parts} for parts in (["decoder"], ["decoder", "prior"], ["prior"])]
    chosen = trainer(small_recipe("vade", stages=stages))
    monkeypatch.setattr(type(chosen.model.prior), "initialization_examples", 40)
    monkeypatch.setattr(Part, "initialization_examples", 30)
    before = chosen.model.prior.loc.detach().clone()
    fit(chosen)
    assert started == [(0, 30, ["encoder", "decoder", "objective"]), (1, 40, ["prior"])]
    assert (chosen.model.prior.loc.detach() - before).abs().max() > 0.01  # two steps of 1e-3 are not that far
    chosen = trainer(small_recipe("vae", stages=[{"steps": 2, "batch_size": 8}] * 2))
    fit(chosen)
    assert started[2:] == [(0, 30, ["encoder", "decoder", "prior", "objective"])]


@pytest.mark.parametrize("variant", ["vae", "vq-vae"])
def test_stages_train_the_parts_that_they_name_unless_frozen(variant: str) -> None:
    stages = [{"steps": 3, "batch_size": 8, "train": [part]} for part in ("encoder", "decoder")]
    recipe = small_recipe(variant, stages=stages)
    model = build_model(recipe, small_data(recipe))
    frozen = next(model.decoder.parameters()).requires_grad_(False)
    chosen = Trainer(recipe, model, small_data(recipe))
    kept = frozen.clone()
    # Initialization from data changes other parts.
    chosen._initialize = lambda *_: None  # type: ignore[method-assign]
    before = {key: value.clone() for key, value in chosen.model.state_dict().items()}
    fit(chosen)
    after = chosen.model.state_dict()
    assert {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])} == {"encoder", "decoder"}
    assert all(parameter.requires_grad is (parameter is not frozen) for parameter in chosen.model.parameters())
    assert torch.equal(kept, frozen)


@pytest.mark.parametrize(
    ("variant", "stage", "message"),
    [
        ("vae", {"train": ["prior"]}, r"stage\[1\]\.train = \['prior'\] leaves nothing to train"),
        ("factor-vae", {"options": {"critic_hidden": [7]}}, "change what the objective learns"),
        ("factor-vae", {"learning_rates": {"critc": 0.1}}, r"no player of .*Did you mean 'critic'\? Players: model, c"),
    ],
)
def test_impossible_stages_are_refused(variant: str, stage: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        fit(trainer(small_recipe(variant, stages=[{"steps": 2}, {"steps": 2, **stage}])))


def test_stages_change_the_objective_and_its_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"steps": 4, "options": {"beta": 8.0}, "rate_warmup": 100, "free_bits": 3.0}
    seen, advance = list[tuple[float, float, bool]](), StageRun.advance

    def watched(run: StageRun) -> None:
        objective = run.model.objective
        assert isinstance(objective, WeightedObjective)
        seen.append((float(objective.rate(None)), objective.free_bits, isinstance(objective.rate, Warmup)))
        advance(run)

    monkeypatch.setattr(StageRun, "advance", watched)
    recipe = small_recipe("beta-vae", stages=[first, {"steps": 4}])
    chosen = trainer(recipe)
    run = fit(chosen)
    assert seen == [(8.0, 3.0, True)] * 4 + [(recipe.options.get("beta", 4.0), 0.0, False)] * 4
    assert run.model.config == build_model(recipe, chosen.data).config
    assert [(line["step"], line["stage"]) for line in run.history] == [(4, 0), (8, 1)]


def test_schedules_of_the_rate_need_a_rate_weight() -> None:
    recipe = small_recipe("vq-vae", rate_warmup=5, free_bits=1.0, learning_rates={"critc": 0.1})
    with pytest.raises(RecipeError) as caught:
        trainer(recipe)
    first, second = str(caught.value).splitlines()
    assert first.startswith("train.rate_warmup and train.free_bits: the objective of 'vq-vae' has no rate weight")
    assert second.startswith("train.learning_rates.critc:") and second.endswith("Players: model.")


class Rising(Objective):
    """An objective of the user's own: it has a rate weight, and is no `WeightedObjective`."""

    has_rate_weight = True
    settings: tuple[float, ...] = (0, 0, 0.0)

    def schedule(self, *, warmup: int = 0, cycles: int = 0, free_bits: float = 0.0) -> None:
        self.settings = (warmup, cycles, free_bits)

    def rate_weight(self, step: Tensor | None) -> float:
        return 1.0 if step is None or not self.settings[0] else min(1.0, float(step) / self.settings[0])

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        inference = model.infer(x, c)
        distortion, rate = inference.distortion(), inference.rate()
        loss = distortion + self.rate_weight(step) * rate
        bound = self.bound_of(inference, distortion, rate)
        return ELBO(distortion=distortion, rate=rate, bound=bound, losses={"model": loss})


def with_objective(recipe: Recipe, objective: Objective) -> Trainer:
    chosen = trainer(recipe)
    return Trainer(recipe, chosen.model.replace(objective=objective), chosen.data)


def test_any_objective_with_a_rate_weight_can_be_scheduled() -> None:
    run = fit(with_objective(small_recipe(rate_warmup=48, free_bits=0.5), Rising()))
    assert isinstance(run.model.objective, Rising) and run.model.objective.settings == (48, 0, 0.5)
    assert [line["rate_weight"] for line in run.history] == [24 / 48]


@pytest.mark.parametrize("place", ["forward", "after_step", "object"])
def test_a_weight_in_a_plain_attribute_is_applied_at_every_step(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients are those of the weight of the step, which the objective itself changes."""

    class Annealed(Rising):
        has_rate_weight = False
        weight, taken = 0.0, 0

        def rate_weight(self, step: Tensor | None) -> float:
            if place == "forward":
                self.weight = 0.25 * self.taken
                self.taken += step is not None
            return next(outside) if place == "object" and step is not None else self.weight

        def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
            if place == "after_step":
                self.weight += 0.25

    def checked(run: StageRun) -> list[ELBO]:
        reseed(0, run.number, 0)
        x, c = run.feed.batch(run.done)
        inference = run.model.infer(x, c)
        loss = (inference.distortion() + 0.25 * run.done * inference.rate()).mean()
        expected = torch.autograd.grad(loss, run.parameters)
        result = passes(run)
        applied.append(all(torch.equal(own.grad, by) for own, by in zip(run.parameters, expected, strict=True)))
        return result

    passes, applied, outside = StageRun._passes, list[bool](), itertools.count(0.0, 0.25)
    monkeypatch.setattr(StageRun, "_passes", checked)
    fit(with_objective(small_recipe(steps=12), Annealed()))
    assert applied == [True] * 12
