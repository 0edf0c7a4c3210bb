"""Kernels and transport: double loops, closed forms, quadrature, optimal assignments."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from support.cases import Case
from torch import Tensor

from vaezoo.core import Inference, seeded
from vaezoo.distributions import ContinuousDelta, StandardNormal
from vaezoo.errors import ConfigError
from vaezoo.objectives import MaximumMeanDiscrepancy, Penalty, SlicedWassersteinDistance
from vaezoo.objectives.penalties.discrepancy import (
    KERNELS,
    conditional_discrepancy,
    context_similarities,
    mean_discrepancy,
    sample_prior,
    sliced_wasserstein,
)
from vaezoo.registry import create


def kernel(name: str, a: list[float], b: list[float], scale: float) -> float:
    squared = math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return math.exp(-squared / scale) if name == "rbf" else scale / (scale + squared)


@pytest.mark.parametrize("name", ["rbf", "imq"])
def test_the_mean_discrepancy_equals_a_double_loop(name: str) -> None:
    a, b = torch.randn(7, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    first, second = a.tolist(), b.tolist()

    def pairs(rows: list[list[float]]) -> float:
        values = [kernel(name, rows[i], rows[j], 2.7) for i, j in itertools.permutations(range(len(rows)), 2)]
        return math.fsum(values) / len(values)

    across = [kernel(name, x, y, 2.7) for x, y in itertools.product(first, second)]
    wanted = pairs(first) + pairs(second) - 2 * math.fsum(across) / len(across)
    assert float(mean_discrepancy(a, b, KERNELS[name], 2.7)) == pytest.approx(wanted)
    alone = float(mean_discrepancy(a[:1], b[:1], KERNELS[name], 2.7))  # without pairs within
    assert alone == pytest.approx(-2 * kernel(name, first[0], second[0], 2.7))


def expected_with_normal(name: str, squared: float, variance: float, width: int, scale: float) -> float:
    """Returns E k(a, u) for u ~ N(0, variance) in `width` dimensions and |a|² = squared."""

    def gaussian(t: float) -> float:  # of exp(-t |a - u|²)
        return float((1 + 2 * variance * t) ** (-width / 2) * math.exp(-t * squared / (1 + 2 * variance * t)))

    if name == "rbf":
        return gaussian(1 / scale)
    return float(quad(lambda t: math.exp(-t) * gaussian(t / scale), 0, math.inf)[0])  # s/(s+d²) = ∫ e^(-t(1+d²/s)) dt


def batch(points: Tensor) -> Inference:
    """Returns an inference whose latents are these points (B, n), with prior N(0, 1)."""
    prior = StandardNormal(torch.zeros(points.shape[1], dtype=points.dtype), 1)
    log_q = points.new_zeros(1, len(points))
    return Inference(
        x=points, z=points.unsqueeze(0), log_q=log_q, posterior=ContinuousDelta(points), prior=prior, likelihood=prior
    )


@pytest.mark.parametrize("name", ["rbf", "imq"])
def test_the_mean_of_the_discrepancy_over_prior_samples_is_exact(name: str) -> None:
    points = torch.randn(6, 3, dtype=torch.float64) * 1.5 + 0.4
    model, penalty = Case("vae").build(), MaximumMeanDiscrepancy(name, 0.9)
    scale = 2 * 3 * 0.9**2
    rows = points.tolist()
    within = [kernel(name, rows[i], rows[j], scale) for i, j in itertools.permutations(range(6), 2)]
    across = [expected_with_normal(name, math.fsum(v * v for v in row), 1.0, 3, scale) for row in rows]
    of_prior = expected_with_normal(name, 0.0, 2.0, 3, scale)  # a difference of two samples
    exact = math.fsum(within) / 30 + of_prior - 2 * math.fsum(across) / 6
    found = torch.stack([penalty(model, batch(points)) for _ in range(800)])
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / len(found) ** 0.5


def test_with_labels_the_discrepancy_is_the_mean_over_pairs_of_equal_labels() -> None:
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 2])
    own, drawn = torch.randn(2, 7, 3, dtype=torch.float64)
    similar = context_similarities(torch.nn.functional.one_hot(labels, 3).double())
    total, count = 0.0, 0
    for i, j in itertools.permutations(range(7), 2):
        if labels[i] == labels[j]:
            a, b, u, v = (rows[k].tolist() for rows in (own, drawn) for k in (i, j))
            total += kernel("rbf", a, b, 1.3) + kernel("rbf", u, v, 1.3)
            total -= kernel("rbf", a, v, 1.3) + kernel("rbf", b, u, 1.3)
            count += 1
    found = conditional_discrepancy(own, drawn, similar, KERNELS["rbf"], 1.3)
    assert count == 12 and float(found) == pytest.approx(total / count, abs=1e-5)


def test_similarities_of_contexts_are_those_of_a_gaussian_kernel() -> None:
    c = torch.randn(6, 2, dtype=torch.float64)
    squared = np.array([[((a - b) ** 2).sum() for b in c.numpy()] for a in c.numpy()])
    expected = np.exp(-squared / (0.1 * squared.mean())) - np.eye(6)
    np.testing.assert_allclose(context_similarities(c).numpy(), expected, atol=1e-12)
    assert torch.equal(context_similarities(torch.ones(3, 2)), 1.0 - torch.eye(3))


@pytest.mark.parametrize("penalty", [MaximumMeanDiscrepancy("imq", 1.0), SlicedWassersteinDistance(50)])
@pytest.mark.parametrize("labeled", [True, False])
def test_the_penalty_compares_the_posterior_of_each_context(penalty: Penalty, labeled: bool) -> None:
    """Codes that belong to other contexts have the same q(z), but another q(z|c)."""
    torch.manual_seed(0)
    model = Case("cvae", context=2).build(torch.float64, latent=2)
    c = torch.eye(2)[torch.arange(200) % 2] if labeled else torch.randn(200, 2)
    slopes = torch.tensor([[3.0, 0.0], [-3.0, 1.0]], dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter.zero_()
        model.prior.network.head.weight[:2].copy_(slopes.T)
    points = c.double() @ slopes + torch.randn(200, 2, dtype=torch.float64)

    def mean(codes: Tensor) -> float:
        own = replace(batch(codes), prior=model.prior(c.double()), c=c)
        return float(torch.stack([penalty(model, own) for _ in range(20)]).mean().detach())

    assert abs(mean(points)) < 0.2 * mean(points.roll(1, 0))


def test_sliced_transport_is_the_optimal_assignment() -> None:
    own, drawn = torch.randn(2, 9, 4, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64))
    costs = []
    for direction in directions:
        a, b = (own @ direction).numpy(), (drawn @ direction).numpy()
        cost = (a[:, None] - b[None, :]) ** 2
        costs.append(cost[linear_sum_assignment(cost)].mean())
    assert float(sliced_wasserstein(own, drawn, directions)) == pytest.approx(np.mean(costs))


def test_directions_are_uniform_on_the_sphere() -> None:
    """The squared distance of N(0, 1) from the point m is (θ·m)² + 1 in the direction θ: |m|²/n + 1 on average."""
    points = torch.tensor([[30.0, 0.0, 0.0, 0.0]]).double().expand(20, 4)
    found = SlicedWassersteinDistance(8_000)(Case("vae").build(), batch(points))
    assert float(found) == pytest.approx(30.0**2 / 4 + 1.0, rel=0.05)


def test_a_conditional_prior_is_sampled_for_each_context() -> None:
    model = Case("cvae+info-vae", context=3).build()
    inference = model.infer(torch.zeros(3, 1, 8, 8), 1e3 * torch.eye(3))
    draws = sample_prior(inference)
    assert draws.shape == (3, 16) and draws.requires_grad
    expected = inference.prior.mean
    assert (draws - expected).abs().max() < 6 * inference.prior.stddev.max() + 1


@pytest.mark.parametrize(
    ("name", "options", "rate", "weight"),
    [
        ("info-vae", {"alpha": 0.25, "weight": 3.0}, 0.75, 2.25),
        ("info-vae", {"alpha": 1.0, "weight": 3.0, "kernel": "imq"}, 0.0, 3.0),
        ("wae-mmd", {"weight": 5.0, "kernel": "rbf", "bandwidth": 2.0}, 0.0, 5.0),
        ("sliced-wae", {"weight": 5.0}, 0.0, 5.0),
    ],
)
def test_losses_are_sums_of_distortion_rate_and_discrepancy(
    name: str, options: dict[str, object], rate: float, weight: float
) -> None:
    model = Case(name).build(torch.float64, **options)
    x, _ = Case(name).inputs(6, torch.float64)
    ((found_weight, penalty),) = model.objective.penalties.values()
    assert found_weight == weight
    with seeded(8):
        elbo = model(x)
    with seeded(8):
        value = penalty(model, model.infer(x))
    (term,) = elbo.terms.values()
    torch.testing.assert_close(term, value.detach().expand(6))
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + rate * elbo.rate + weight * value)


def test_info_vae_refuses_a_negative_weight_of_the_discrepancy() -> None:
    with pytest.raises(ConfigError, match=r"alpha = -1 and weight = 1; expected weight ≥ 1 - alpha.*weight = 2"):
        create("info-vae", shape=(1, 8, 8), alpha=-1.0, weight=1.0)
