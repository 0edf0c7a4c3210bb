"""Schedules, the weighted objective, the centre, and what the terms mean."""

import copy
import math

import pytest
import torch
from support.cases import Case
from torch import Tensor
from torch.distributions import Categorical, Normal, OneHotCategorical

from vaezoo.core import Inference, Objective, Part, center, has_closed_form_rate, sample_with_log_prob
from vaezoo.distributions.normal import DiagonalNormal, StandardNormal
from vaezoo.objectives import Cyclical, Schedule, Warmup, WeightedObjective


def at(step: int) -> Tensor:
    return torch.tensor(step)


def test_warmup_rises_linearly_and_stays() -> None:
    schedule = Warmup(4.0, 10)
    assert [float(schedule(at(step))) for step in (0, 5, 10, 99)] == [0.0, 2.0, 4.0, 4.0]
    assert schedule(None) == 4.0


def test_cycles_rise_in_their_first_half() -> None:
    schedule = Cyclical(2.0, 100, 3)
    assert [float(schedule(at(step))) for step in (0, 25, 50, 99, 100, 125, 299, 300, 999)] == pytest.approx(
        [0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0, 2.0, 2.0]
    )
    assert schedule(None) == 2.0


def test_a_schedule_follows_a_tensor_that_is_advanced_in_place() -> None:
    step, schedule = at(0), Warmup(1.0, 4)
    seen = []
    for _ in range(5):
        seen.append(float(schedule(step)))
        step += 1
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]
    with pytest.raises(NotImplementedError):
        Schedule()(None)


def loss(objective: WeightedObjective, step: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    case = Case("vae")
    model, (x, _) = case.build(torch.float64), case.inputs(6, torch.float64)
    elbo = objective(model, x, None, step)
    torch.testing.assert_close(elbo.bound, -elbo.distortion - elbo.rate)  # no weight touches it
    return elbo.losses["model"] - elbo.distortion, elbo.rate, elbo.bound


def test_weights_capacity_and_free_bits() -> None:
    penalty, rate, _ = loss(WeightedObjective(3.0))
    torch.testing.assert_close(penalty, 3.0 * rate)
    penalty, rate, _ = loss(WeightedObjective(2.0, capacity=25.0))
    torch.testing.assert_close(penalty, 2.0 * (rate - 25.0).abs())
    penalty, rate, _ = loss(WeightedObjective(2.0, capacity=Warmup(25.0, 10)), at(5))
    torch.testing.assert_close(penalty, 2.0 * (rate - 12.5).abs())
    penalty, rate, _ = loss(WeightedObjective(1.0, free_bits=1e3))
    torch.testing.assert_close(penalty, torch.full_like(rate, 1e3))
    penalty, rate, _ = loss(WeightedObjective(Warmup(1.0, 10)), at(0))
    torch.testing.assert_close(penalty, torch.zeros_like(rate))


def test_a_stage_takes_back_what_an_earlier_one_scheduled() -> None:
    objective = WeightedObjective(4.0, free_bits=0.5)
    objective.schedule(warmup=10, free_bits=2.0)
    assert float(objective.rate(at(5))) == 2.0 and objective.free_bits == 2.0
    copied = copy.deepcopy(objective)
    objective.schedule()
    assert objective.rate(at(5)) == 4.0 and objective.free_bits == 0.5
    copied.schedule(warmup=10, cycles=2)
    assert isinstance(copied.rate, Cyclical) and not copied.state_dict()
    assert WeightedObjective.has_rate_weight and not Objective.has_rate_weight


def test_more_samples_lower_the_noise_of_the_same_bound() -> None:
    case = Case("vae")
    model, (x, _) = case.build(torch.float64), case.inputs(4, torch.float64)
    one = torch.stack([WeightedObjective(samples=1)(model, x).distortion for _ in range(200)])
    many = torch.stack([WeightedObjective(samples=20)(model, x).distortion for _ in range(200)])
    assert (many.std(0) < 0.5 * one.std(0)).all()
    assert ((one.mean(0) - many.mean(0)).abs() < 4 * one.std(0) / 200**0.5 + 4 * many.std(0) / 200**0.5).all()


def test_the_centre_is_the_own_one_the_mean_or_the_mode() -> None:
    loc = torch.tensor([[1.0, 2.0]])
    assert torch.equal(center(DiagonalNormal(loc, loc)), loc)
    assert torch.equal(center(Normal(loc, 1.0)), loc)
    assert torch.equal(center(OneHotCategorical(probs=torch.tensor([[0.2, 0.8]]))), torch.tensor([[0.2, 0.8]]))

    class OnlyMode(Categorical):
        @property
        def mean(self) -> Tensor:
            raise NotImplementedError

    assert center(OnlyMode(probs=torch.tensor([[0.2, 0.8]]))).tolist() == [1]


def test_draws_carry_their_density_whatever_the_distribution() -> None:
    z, log_q = sample_with_log_prob(Normal(torch.zeros(3), 2.0), 5)
    torch.testing.assert_close(log_q, Normal(0.0, 2.0).log_prob(z))
    z, log_q = sample_with_log_prob(
        Categorical(probs=torch.tensor([[0.25, 0.75]])), 5
    )  # cannot be differentiated, but drawn
    assert z.shape == log_q.shape == (5, 1)


def test_the_rate_is_sampled_where_no_closed_form_is_registered() -> None:
    posterior, prior = Normal(torch.zeros(3), 2.0), StandardNormal(torch.zeros(()), 0)
    assert not has_closed_form_rate(posterior, prior) and has_closed_form_rate(prior, prior)
    z, log_q = sample_with_log_prob(posterior, 50_000)
    inference = Inference(x=z, z=z, log_q=log_q, posterior=posterior, prior=prior, likelihood=posterior)
    exact = 0.5 * (4.0 - 1.0) - math.log(2.0)
    assert inference.rate().shape == (3,) and (inference.rate() - exact).abs().max() < 0.05


def test_a_part_without_hooks_does_nothing() -> None:
    part = Part()
    inference = Case("vae").build().infer(torch.zeros(1, 1, 8, 8))
    part.initialize(Case("vae").build(), [])
    part.after_step([], at(0))
    assert part.observe(inference) == {}
    with pytest.raises(NotImplementedError):
        Objective()(Case("vae").build(), torch.zeros(1, 1, 8, 8))
