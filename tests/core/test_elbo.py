"""Schedules, the weighted objective, the center, and the rate."""

import copy
import math

import pytest
import torch
from support.cases import Case
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal, OneHotCategorical, StudentT
from torch.distributions.kl import register_kl

from vaezoo.core import Inference, Objective, Part, center, closed_form_rate, sample_with_log_prob
from vaezoo.distributions import DiagonalNormal, StandardNormal
from vaezoo.objectives import Cyclical, Schedule, Warmup, WeightedObjective


def at(step: int) -> Tensor:
    return torch.tensor(step)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Warmup(4.0, 10), {0: 0.0, 5: 2.0, 10: 4.0, 99: 4.0}),
        (Cyclical(2.0, 100, 3), {0: 0, 25: 1, 50: 2, 99: 2, 100: 0, 125: 1, 299: 2, 300: 2, 999: 2}),
    ],
)
def test_a_schedule_follows_a_step_that_is_advanced_in_place(schedule: Schedule, values: dict[int, float]) -> None:
    step = at(0)
    for number, value in values.items():
        step.fill_(number)
        assert float(schedule(step)) == pytest.approx(value)
    assert schedule(None) == list(values.values())[-1]


def test_weights_capacity_free_bits_and_samples() -> None:
    model, (x, _) = Case("vae").build(torch.float64), Case("vae").inputs(6, torch.float64)
    for objective, step, wanted in (
        (WeightedObjective(3.0), None, lambda rate: 3.0 * rate),
        (WeightedObjective(2.0, capacity=25.0), None, lambda rate: 2.0 * (rate - 25.0).abs()),
        (WeightedObjective(2.0, capacity=Warmup(25.0, 10)), at(5), lambda rate: 2.0 * (rate - 12.5).abs()),
        (WeightedObjective(1.0, free_bits=1e3), None, lambda rate: torch.full_like(rate, 1e3)),
        (WeightedObjective(Warmup(1.0, 10)), at(0), torch.zeros_like),
    ):
        elbo = objective(model, x, None, step)
        torch.testing.assert_close(elbo.bound, -elbo.distortion - elbo.rate)  # unweighted
        torch.testing.assert_close(elbo.losses["model"] - elbo.distortion, wanted(elbo.rate))
    torch.manual_seed(0)
    found = WeightedObjective(samples=20)(model, x).distortion
    torch.manual_seed(0)
    posterior = model.encode(x)
    torch.testing.assert_close(found, -model.decode(posterior.rsample((20,))).log_prob(x).mean(0))


def test_a_stage_resets_the_schedule_of_an_earlier_one() -> None:
    objective = WeightedObjective(4.0, free_bits=0.5)
    objective.schedule(warmup=10, free_bits=2.0)
    assert objective.rate_weight(at(5)) == 2.0 and objective.free_bits == 2.0
    copied = copy.deepcopy(objective)
    objective.schedule()
    assert objective.rate_weight(at(5)) == 4.0 and objective.free_bits == 0.5
    copied.schedule(warmup=10, cycles=2)
    assert isinstance(copied.rate, Cyclical) and not copied.state_dict()


class OnlyMode(Distribution):
    mode = torch.ones(1)


def test_the_center_is_the_mean_or_the_mode() -> None:
    loc = torch.tensor([[1.0, 2.0]])
    for posterior in (DiagonalNormal(loc, loc), Normal(loc, 1.0), OneHotCategorical(probs=loc / 3)):
        assert torch.equal(center(posterior), posterior.mean)
    assert center(OnlyMode(validate_args=False)).tolist() == [1]


def test_draws_carry_their_density_for_any_distribution() -> None:
    z, log_q = sample_with_log_prob(Normal(torch.zeros(3), 2.0), 5)
    torch.testing.assert_close(log_q, Normal(0.0, 2.0).log_prob(z))
    z, log_q = sample_with_log_prob(Categorical(probs=torch.tensor([[0.25, 0.75]])), 5)  # without rsample
    assert z.shape == log_q.shape == (5, 1)


def rate(posterior: Distribution, prior: Distribution, samples: int = 50_000) -> Tensor:
    z, log_q = sample_with_log_prob(posterior, samples)
    return Inference(x=z, z=z, log_q=log_q, posterior=posterior, prior=prior, likelihood=posterior).rate()


def test_the_rate_is_sampled_without_a_closed_form() -> None:
    posterior, prior = Normal(torch.zeros(3), 2.0), StandardNormal(torch.zeros(()), 0)
    assert closed_form_rate(posterior, prior) is None and closed_form_rate(prior, prior) is not None
    exact = 0.5 * (4.0 - 1.0) - math.log(2.0)
    assert rate(posterior, prior).shape == (3,) and (rate(posterior, prior) - exact).abs().max() < 0.05
    # torch registers Independent, but not what these two are made of
    heavy, normal = Independent(StudentT(torch.full((2, 1), 4.0)), 1), Independent(Normal(torch.zeros(2, 1), 1.0), 1)
    assert closed_form_rate(heavy, normal) is None and rate(heavy, normal).shape == (2,)


class Faulty(DiagonalNormal):
    """Its KL has an error that raises NotImplementedError."""


@register_kl(Faulty, StandardNormal)  # type: ignore[untyped-decorator]
def kl_faulty(p: Faulty, q: StandardNormal) -> Tensor:
    return p.cdf(q.loc)


def test_an_error_inside_a_registered_kl_is_raised() -> None:
    zeros = torch.zeros(2, 1)
    with pytest.raises(NotImplementedError):
        rate(Faulty(zeros, zeros), StandardNormal(torch.zeros(1), 1), 1)


def test_a_part_without_hooks_does_nothing() -> None:
    part, model, x = Part(), Case("vae").build(), torch.zeros(1, 1, 8, 8)
    part.initialize(model, [])
    part.after_step([], at(0))
    assert part.observe(model.infer(x)) == {} and part.classify(x) is None and part.likelihood is None
    objective = Objective()
    assert not objective.has_rate_weight and not objective.critics
    for call in (lambda: objective(model, x), objective.schedule, lambda: objective.rate_weight(None)):
        with pytest.raises(NotImplementedError):
            call()


@pytest.mark.full
@pytest.mark.parametrize(
    "name", ["vae", "iaf-vae", "full-covariance-vae"]
)  # with, without, and with another closed form
def test_a_step_is_one_graph_for_the_compiler(name: str) -> None:
    model, (x, _) = Case(name).build(), Case(name).inputs(3)
    loss = torch.compile(lambda x: model.objective(model, x).losses["model"].mean(), fullgraph=True, backend="eager")
    assert torch.isfinite(loss(x))
