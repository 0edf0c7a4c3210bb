"""Distributions against torch's own, against quadrature, and in double precision."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, ContinuousBernoulli, Independent, MultivariateNormal, Normal, kl_divergence

from vaezoo.distributions import (
    BernoulliPixels,
    CholeskyNormal,
    ContinuousBernoulliPixels,
    DiagonalNormal,
    DiscretizedLogisticPixels,
    StandardNormal,
    normal_from,
)


def normals(dims: int) -> tuple[DiagonalNormal, Independent]:
    shape = (3, 2, 4, 5)[: 1 + dims]
    loc, log_scale = torch.randn(2, *shape, dtype=torch.float64)
    return DiagonalNormal(loc, log_scale, dims), Independent(Normal(loc, log_scale.exp()), dims)


@pytest.mark.parametrize("dims", [0, 1, 3])
def test_the_diagonal_normal_agrees_with_torch(dims: int) -> None:
    ours, theirs = normals(dims)
    z, log_density = ours.rsample_and_log_prob((6,))
    assert z.shape == (6, *ours.batch_shape, *ours.event_shape) and ours.event_shape == theirs.event_shape
    torch.testing.assert_close(log_density, theirs.log_prob(z))
    torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z))
    for name in ("mean", "mode", "stddev", "variance"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    assert torch.equal(ours.center, ours.mean) and bool(ours.support.check(z).all())


def test_the_gradient_of_a_draw_is_pathwise() -> None:
    loc, log_scale = torch.zeros(3, requires_grad=True), torch.full((3,), 0.3, requires_grad=True)
    z = DiagonalNormal(loc, log_scale).rsample((4,))
    by_loc, by_scale = torch.autograd.grad(z.sum(), (loc, log_scale))
    torch.testing.assert_close(by_loc, torch.full((3,), 4.0))
    torch.testing.assert_close(by_scale, z.detach().sum(0))  # z = σ·noise and dz/dlog σ = σ·noise


@pytest.mark.parametrize("dims", [1, 3])
def test_divergences_agree_with_torch(dims: int) -> None:
    (p, their_p), (q, their_q) = normals(dims), normals(dims)
    torch.testing.assert_close(kl_divergence(p, q), kl_divergence(their_p, their_q))
    zeros = torch.zeros(p.event_shape, dtype=torch.float64)
    standard = StandardNormal(zeros, dims)
    wide = Independent(Normal(zeros.expand_as(p.loc), 1.0), dims)
    torch.testing.assert_close(kl_divergence(p, standard), kl_divergence(their_p, wide))
    torch.testing.assert_close(kl_divergence(standard.expand((3,)), q), kl_divergence(wide, their_q))
    assert kl_divergence(standard, standard) == 0
    z = p.rsample((2,))
    torch.testing.assert_close(standard.log_prob(z), wide.log_prob(z))


def test_raw_output_of_any_magnitude_gives_a_finite_normal() -> None:
    raw = torch.tensor([-1e30, -40.0, 0.0, 40.0, 1e30]).reshape(5, 1, 1).expand(5, 2, 1)
    posterior = normal_from(raw, 1)
    z, log_q = posterior.rsample_and_log_prob((3,))
    assert not z.isnan().any() and torch.isfinite(log_q).all() and (posterior.stddev > 0).all()
    assert normal_from(raw.bfloat16(), 1).loc.dtype == torch.float32
    half = normal_from(torch.zeros(2, 1), 1, math.log(0.5))
    torch.testing.assert_close(half.stddev, torch.tensor([0.5]))


def test_bernoulli_pixels_agree_with_torch() -> None:
    logits = 4 * torch.randn(3, 2, 5, dtype=torch.float64)
    ours, theirs = BernoulliPixels(logits, 2), Independent(Bernoulli(logits=logits), 2)
    x = ours.sample((7,))
    assert x.shape == (7, 3, 2, 5) and bool(((x == 0) | (x == 1)).all())
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x))
    torch.testing.assert_close(ours.mean, theirs.mean)
    torch.testing.assert_close(ours.variance, theirs.variance)
    torch.testing.assert_close(ours.mode, (logits > 0).double())
    mean = ours.sample((20_000,)).mean(0)
    assert ((mean - ours.mean).abs() < 4.5 * (ours.variance / 20_000).sqrt() + 1e-9).all()
    assert BernoulliPixels(torch.tensor([1e30, -1e30]), 1).log_prob(torch.tensor([1.0, 0.0])) == 0


LOGITS = torch.tensor([-300.0, -30.0, -3.0, -0.2, -0.099, -1e-3, 0.0, 1e-9, 0.05, 0.101, 2.0, 40.0, 300.0]).double()


def midpoints(count: int) -> Tensor:
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def test_the_continuous_bernoulli_integrates_to_one() -> None:
    x = midpoints(200_000)[:, None]
    density = ContinuousBernoulliPixels(LOGITS, 0).log_prob(x).exp()
    torch.testing.assert_close(density.mean(0), torch.ones_like(LOGITS), rtol=1e-6, atol=1e-6)
    ours = ContinuousBernoulliPixels(LOGITS, 0)
    mean = (x * density).mean(0)
    torch.testing.assert_close(ours.mean, mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(ours.variance, ((x - mean).square() * density).mean(0), rtol=1e-5, atol=1e-7)
    assert bool(ours.support.check(x).all())
    logits = torch.tensor([-5.0, -1.0, 0.5, 3.0], dtype=torch.float64)
    theirs = ContinuousBernoulli(logits=logits).log_prob(x[::5000])
    torch.testing.assert_close(ContinuousBernoulliPixels(logits, 0).log_prob(x[::5000]), theirs)


def test_continuous_bernoulli_draws_and_gradients() -> None:
    ours = ContinuousBernoulliPixels(LOGITS, 0)
    x = ours.sample((40_000,))
    assert bool(((x >= 0) & (x <= 1)).all())
    assert ((x.mean(0) - ours.mean).abs() < 4.5 * (ours.variance / len(x)).sqrt() + 1e-9).all()
    logits = LOGITS.float().requires_grad_()
    ContinuousBernoulliPixels(logits, 0).log_prob(torch.rand(5, 1)).sum().backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    extreme = torch.tensor([-1e4, -90.0, 90.0, 1e4], requires_grad=True)
    (slope,) = torch.autograd.grad(ContinuousBernoulliPixels(extreme, 0).mean.sum(), extreme)
    torch.testing.assert_close(slope, extreme.detach().double().pow(-2).float(), rtol=1e-4, atol=1e-9)
    inner = torch.tensor([-3.0, -0.05, 0.0, 0.05, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: ContinuousBernoulliPixels(each, 0).log_prob(torch.tensor(0.3)), inner)
    assert torch.autograd.gradcheck(lambda each: ContinuousBernoulliPixels(each, 0).mean, inner)


@pytest.mark.parametrize("levels", [2, 16, 256])
def test_the_masses_of_the_levels_have_sum_one_and_the_mean(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loc = torch.tensor([-0.4, 0.0, 0.3, 0.5, 1.0, 2.0], dtype=torch.float64).expand(4, 6)
    log_scale = torch.tensor([-7.0, -3.0, 0.0, 3.0], dtype=torch.float64)[:, None].expand(4, 6)
    ours = DiscretizedLogisticPixels(loc, log_scale, levels, 0)
    grid = torch.linspace(0, 1, levels, dtype=torch.float64)[:, None, None]
    masses = ours.log_prob(grid).exp()
    torch.testing.assert_close(masses.sum(0), torch.ones_like(loc))
    upper, lower = (
        ((grid + half - loc) / log_scale.exp()).sigmoid() for half in (0.5 / (levels - 1), -0.5 / (levels - 1))
    )
    torch.testing.assert_close(masses[1:-1], (upper - lower)[1:-1], rtol=1e-6, atol=1e-12)
    for at_once in (1, 700, 2**18):  # pixels one by one, a few, and all
        monkeypatch.setattr("vaezoo.distributions.pixels.AT_ONCE", at_once)
        torch.testing.assert_close(ours.mean, (grid * masses).sum(0), rtol=0, atol=1e-9)


def test_discretized_draws_lie_on_the_levels_as_often_as_their_mass() -> None:
    loc, log_scale = torch.tensor([0.1, 0.6]).double(), torch.tensor([-2.0, -1.0]).double()
    ours = DiscretizedLogisticPixels(loc, log_scale, 4, 0)
    x = ours.sample((50_000,))
    for level in range(4):
        mass = ours.log_prob(torch.full((2,), level / 3).double()).exp()
        share = ((x * 3).round() == level).double().mean(0)
        assert ((share - mass).abs() < 4.5 * (mass * (1 - mass) / len(x)).sqrt()).all()
    assert torch.isfinite(DiscretizedLogisticPixels(loc * 1e6, log_scale - 10, 256, 1).log_prob(loc))


def full_covariance(*batch: int) -> tuple[CholeskyNormal, MultivariateNormal]:
    torch.manual_seed(0)
    loc, log_diagonal = torch.randn(2, *batch, 4, dtype=torch.float64)
    lower = torch.randn(*batch, 4, 4, dtype=torch.float64)
    factor = lower.tril(-1) + torch.diag_embed(log_diagonal.exp())
    return CholeskyNormal(loc, log_diagonal, lower), MultivariateNormal(loc, scale_tril=factor)


def test_the_density_of_a_full_covariance_agrees_with_torch() -> None:
    for batch in ((), (3,), (2, 3)):
        ours, theirs = full_covariance(*batch)
        for sample in ((), (6,), (5, 6)):
            z, log_density = ours.rsample_and_log_prob(sample)
            assert z.shape == (*sample, *batch, 4)
            torch.testing.assert_close(log_density, theirs.log_prob(z))
            torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z))
        torch.testing.assert_close(ours.stddev, theirs.stddev)
        torch.testing.assert_close(ours.mean, theirs.mean)


def test_draws_have_the_full_covariance() -> None:
    ours, theirs = full_covariance()
    z = ours.rsample((100_000,))
    covariance = theirs.covariance_matrix
    spread = (covariance.diag()[:, None] * covariance.diag() + covariance.square()).sqrt() / len(z) ** 0.5
    assert ((z.T.cov() - covariance).abs() < 4.5 * spread).all()


def test_the_divergences_of_a_full_covariance_agree_with_torch() -> None:
    ours, theirs = full_covariance(3)
    loc, log_scale = torch.randn(2, 3, 4, dtype=torch.float64)
    other = MultivariateNormal(loc, scale_tril=torch.diag_embed(log_scale.exp()))
    torch.testing.assert_close(kl_divergence(ours, DiagonalNormal(loc, log_scale)), kl_divergence(theirs, other))
    zeros = torch.zeros(4, dtype=torch.float64)
    standard = MultivariateNormal(zeros, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(kl_divergence(ours, StandardNormal(zeros, 1)), kl_divergence(theirs, standard))


def test_autocast_does_not_round_draws() -> None:
    ours = CholeskyNormal(torch.zeros(3, 8), torch.zeros(3, 8), torch.randn(3, 8, 8))
    torch.manual_seed(1)
    expected = ours.rsample_and_log_prob((4,))
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = ours.rsample_and_log_prob((4,))
    assert all(map(torch.equal, found, expected))
