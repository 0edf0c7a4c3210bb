"""The von Mises-Fisher distribution against scipy, closed forms, and bounds where scipy has no number."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn.functional import normalize

from vaezoo.distributions import UniformSphere, VonMisesFisher
from vaezoo.distributions.von_mises_fisher import Angle

CONCENTRATIONS = (1e-9, 1e-3, 0.1, 1.0, 7.0, 30.0, 300.0, 1e4, 1e6)
DIMENSIONS = (2, 3, 4, 5, 10, 20, 50)


def directions(count: int, width: int) -> Tensor:
    return normalize(torch.randn(count, width, dtype=torch.float64), dim=-1)


def posterior(concentration: float, width: int, count: int = 1) -> VonMisesFisher:
    return VonMisesFisher(directions(count, width), torch.full((count,), concentration, dtype=torch.float64))


def uniform(width: int) -> UniformSphere:
    return UniformSphere(torch.zeros(width, dtype=torch.float64))


@pytest.mark.parametrize("width", DIMENSIONS)
def test_density_mean_and_rate_are_those_of_scipy(width: int) -> None:
    torch.manual_seed(0)
    order, area = width / 2 - 1, math.log(2) + width / 2 * math.log(math.pi) - math.lgamma(width / 2)
    for concentration in CONCENTRATIONS:
        ours = posterior(concentration, width)
        near, log_q = ours.rsample_and_log_prob((20,))
        theirs = stats.vonmises_fisher(ours.loc[0].numpy(), max(concentration, 1e-12))
        for z in (near[:, 0], directions(20, width)):
            expected = torch.from_numpy(theirs.logpdf(z.numpy()))
            torch.testing.assert_close(ours.log_prob(z[:, None])[:, 0], expected, rtol=1e-9, atol=1e-6)
        torch.testing.assert_close(log_q, ours.log_prob(near), rtol=1e-7, atol=1e-5)
        assert (near.norm(dim=-1) - 1).abs().max() < 1e-12
        ratio = special.ive(order + 1, concentration) / special.ive(order, concentration)
        log_density = order * math.log(concentration) - width / 2 * math.log(2 * math.pi)
        log_density -= math.log(special.ive(order, concentration)) + concentration
        rate = kl_divergence(ours, uniform(width)).item()
        # Its terms are as large as the concentration, and their difference is a few nats.
        expected_rate = concentration * ratio + log_density + area
        assert rate == pytest.approx(expected_rate, rel=1e-9, abs=1e-12 + 1e-14 * concentration)
        torch.testing.assert_close(ours.mean, ours.loc * ratio, rtol=1e-7, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_of_concentration_and_dimension(dtype: torch.dtype) -> None:
    """Where Bessel functions over- or underflow: bounds on their ratio (Amos, 1974), and two limits of the rate."""
    for width in (2, 3, 10, 100, 1000, 100_000):
        k = torch.logspace(-12, 8, 60, dtype=torch.float64)
        mean, log_normalizer = Angle(k.to(dtype), width).expectation_and_log_normalizer()
        k = k.to(dtype).double()
        half, ratio = (width - 1) / 2, 1 - mean
        assert (ratio >= k / (half + (k**2 + (half + 1) ** 2).sqrt()) - 1e-10).all()
        assert (ratio <= k / (half + (k**2 + half**2).sqrt()) + 1e-10).all()
        rate = -k * mean - log_normalizer
        assert torch.isfinite(rate).all() and (rate >= -1e-9).all() and (rate.diff() > -1e-9).all()
        small = k < 1e-3
        torch.testing.assert_close(rate[small], k[small] ** 2 / (2 * width), rtol=1e-3, atol=1e-9)
        if width <= 1000:  # as sharp as a Gaussian with variance 1/κ in each of m - 1 directions
            area = math.log(2) + width / 2 * math.log(math.pi) - math.lgamma(width / 2)
            sharp = area + (width - 1) / 2 * (math.log(1e8) - math.log(2 * math.pi) - 1)
            assert rate[-1].item() == pytest.approx(sharp, rel=1e-4)


@pytest.mark.parametrize(("concentration", "width"), [(0.5, 2), (40.0, 2), (2.0, 3), (5.0, 6), (90.0, 20), (1e4, 50)])
def test_quantiles_of_angles_agree_with_quadrature(concentration: float, width: int) -> None:
    share = torch.tensor([1e-6, 0.01, 0.2, 0.5, 0.77, 0.99, 1 - 1e-6], dtype=torch.float64)
    angles = Angle(torch.tensor(concentration, dtype=torch.float64), width).quantile(share)

    def density(angle: float) -> float:
        return math.exp(concentration * (math.cos(angle) - 1)) * math.sin(angle) ** (width - 2) * 10 ** (width / 2)

    ends = [0.0, *angles.tolist(), math.pi]
    masses = [integrate.quad(density, a, b, epsabs=0, epsrel=1e-10, limit=500)[0] for a, b in itertools.pairwise(ends)]
    found = np.cumsum(masses)[:-1] / np.sum(masses)
    np.testing.assert_allclose(found, share.numpy(), rtol=1e-6)
    assert torch.isfinite(Angle(torch.tensor(concentration), width).quantile(torch.tensor([0.0, 1.0]))).all()


def test_angles_and_their_gradients_in_three_dimensions_agree_with_the_closed_form() -> None:
    k = torch.tensor([1e-3, 0.1, 1.0, 12.0, 200.0, 1e5], dtype=torch.float64, requires_grad=True)
    share = torch.rand(40, dtype=torch.float64).expand(6, 40)
    angle = Angle(k, 3).quantile(share)
    # F(θ) = (1 - e^{κ (cos θ - 1)}) / (1 - e^{-2κ})
    distance = -torch.log1p(share * torch.expm1(-2 * k)[:, None]) / k[:, None]  # 1 - cos θ
    exact = 2 * (distance / 2).sqrt().asin()
    torch.testing.assert_close(angle, exact, rtol=1e-9, atol=1e-12)
    weights = torch.randn(6, 40, dtype=torch.float64)
    slopes = [torch.autograd.grad((weights * each).sum(), k, retain_graph=True)[0] for each in (angle, exact)]
    torch.testing.assert_close(*slopes, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("concentration", "width"), [(0.3, 2), (20.0, 2), (1.5, 3), (8.0, 5), (60.0, 16)])
def test_gradients_of_draws_are_unbiased(concentration: float, width: int) -> None:
    """E[a·z] = A(κ) a·μ and E[(a·z)²] have known gradients in μ and κ; those of draws have their mean."""
    torch.manual_seed(7)
    raw = torch.randn(width, dtype=torch.float64, requires_grad=True)
    k = torch.tensor(concentration, dtype=torch.float64, requires_grad=True)
    a = directions(1, width)[0]
    count = 8_000
    loc = normalize(raw.expand(count, width), dim=-1)
    many = k.expand(count).clone()
    z, _ = VonMisesFisher(loc, many).rsample_and_log_prob()
    one = VonMisesFisher(normalize(raw, dim=-1), k)
    cosine = one.loc @ a
    nodes = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)
    weights = (k * (nodes.cos() - 1)).exp() * nodes.sin() ** (width - 2)
    second = (weights * nodes.cos().square()).sum() / weights.sum()  # E[cos² θ]
    exact = {
        "first": one.mean @ a,
        "second": cosine.square() * second + (1 - cosine.square()) * (1 - second) / (width - 1),
    }
    for name, values in (("first", z @ a), ("second", (z @ a).square())):
        error = (values.mean() - exact[name]).abs()
        assert error < 4.5 * values.std() / count**0.5
        wanted = torch.autograd.grad(exact[name], (raw, k), retain_graph=True)
        rows = torch.autograd.grad(values.sum(), (loc, many), retain_graph=True)  # a row for each draw
        jacobian = torch.eye(width, dtype=torch.float64) - torch.outer(one.loc, one.loc)
        by_raw = (rows[0] @ jacobian / raw.norm()).detach()
        assert ((by_raw.mean(0) - wanted[0]).abs() < 4.5 * by_raw.std(0) / count**0.5 + 1e-12).all()
        assert (rows[1] - wanted[1]).mean().abs() < 4.5 * rows[1].std() / count**0.5


def test_draws_are_distributed_as_those_of_scipy() -> None:
    torch.manual_seed(2)
    for concentration, width in ((0.7, 2), (3.0, 3), (25.0, 8)):
        ours = posterior(concentration, width)
        z = ours.rsample((5_000,))[:, 0]
        theirs = stats.vonmises_fisher(ours.loc[0].numpy(), concentration).rvs(5_000, random_state=1)
        for direction in directions(3, width):
            found = stats.ks_2samp((z @ direction).numpy(), theirs @ direction.numpy())
            assert found.pvalue > 1e-3
    z = uniform(4).rsample((20_000,))
    assert (z.mean(0).abs() < 4.5 * 0.5 / 20_000**0.5).all() and bool(uniform(4).support.check(z).all())
    area = math.exp(-uniform(4).log_prob(z)[0].item())
    assert area == pytest.approx(2 * math.pi**2)


def test_the_density_of_narrow_draws_is_accurate_in_float32() -> None:
    """In float32 κ (1 - cos θ) from rounded z would be off by nats."""
    torch.manual_seed(0)
    loc = normalize(torch.randn(1, 10), dim=-1)
    z, log_q = VonMisesFisher(loc, torch.tensor([1e6])).rsample_and_log_prob((20_000,))
    wide = VonMisesFisher(loc.double(), torch.tensor([1e6], dtype=torch.float64))
    entropy = -kl_divergence(wide, uniform(10)) - uniform(10).log_prob(loc.double())
    assert z.dtype == log_q.dtype == torch.float32
    assert (-log_q.mean() - entropy).abs() < 4.5 * log_q.std() / 20_000**0.5
