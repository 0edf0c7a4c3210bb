"""Gaussians with a full covariance against torch's own."""

import torch
from torch.distributions import MultivariateNormal, kl_divergence

from vaezoo.distributions import CholeskyNormal, DiagonalNormal, StandardNormal


def pair(*batch: int) -> tuple[CholeskyNormal, MultivariateNormal]:
    torch.manual_seed(0)
    loc, log_diagonal = torch.randn(2, *batch, 4, dtype=torch.float64)
    lower = torch.randn(*batch, 4, 4, dtype=torch.float64)
    factor = lower.tril(-1) + torch.diag_embed(log_diagonal.exp())
    return CholeskyNormal(loc, log_diagonal, lower), MultivariateNormal(loc, scale_tril=factor)


def test_the_density_agrees_with_torch() -> None:
    for batch in ((), (3,), (2, 3)):
        ours, theirs = pair(*batch)
        for sample in ((), (6,), (5, 6)):
            z, log_density = ours.rsample_and_log_prob(sample)
            assert z.shape == (*sample, *batch, 4)
            torch.testing.assert_close(log_density, theirs.log_prob(z))
            torch.testing.assert_close(ours.log_prob(z), theirs.log_prob(z))
        torch.testing.assert_close(ours.stddev, theirs.stddev)
        torch.testing.assert_close(ours.mean, theirs.mean)


def test_draws_have_the_covariance() -> None:
    ours, theirs = pair()
    z = ours.rsample((100_000,))
    covariance = theirs.covariance_matrix
    spread = (covariance.diag()[:, None] * covariance.diag() + covariance.square()).sqrt() / len(z) ** 0.5
    assert ((z.T.cov() - covariance).abs() < 4.5 * spread).all()


def test_the_divergences_agree_with_torch() -> None:
    ours, theirs = pair(3)
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
