"""Mixtures against scikit-learn's, and against a plain loop for other components."""

import math

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from vaezoo.distributions import CholeskyNormal, DiagonalNormal, Mixture, VonMisesFisher, log_prob_of_each


def gaussian_mixture(components: int = 4, width: int = 3) -> tuple[Mixture, GaussianMixture]:
    torch.manual_seed(3)
    loc = 2 * torch.randn(components, width, dtype=torch.float64)
    log_scale = 0.5 * torch.randn(components, width, dtype=torch.float64)
    log_weights = torch.randn(components, dtype=torch.float64).log_softmax(0)
    theirs = GaussianMixture(components, covariance_type="diag")
    theirs.weights_, theirs.means_ = log_weights.exp().numpy(), loc.numpy()
    theirs.covariances_ = (2 * log_scale).exp().numpy()
    theirs.precisions_cholesky_ = (-log_scale).exp().numpy()
    return Mixture(DiagonalNormal(loc, log_scale), log_weights), theirs


def test_density_and_responsibilities_agree_with_scikit_learn() -> None:
    ours, theirs = gaussian_mixture()
    z = 3 * torch.randn(200, 3, dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(z), torch.from_numpy(theirs.score_samples(z.numpy())))
    shares = ours.responsibilities(z)
    torch.testing.assert_close(shares, torch.from_numpy(theirs.predict_proba(z.numpy())))
    assert torch.equal(shares.argmax(-1), torch.from_numpy(theirs.predict(z.numpy())))
    assert ours.log_prob(z.view(10, 20, 3)).shape == (10, 20)


def test_draws_follow_the_weights_and_the_components() -> None:
    ours, theirs = gaussian_mixture()
    z = ours.sample((40_000,))
    assert z.shape == (40_000, 3) and ours.sample((2, 5)).shape == (2, 5, 3) and ours.sample().shape == (3,)
    mean = torch.from_numpy(theirs.weights_ @ theirs.means_)
    assert ((z.mean(0) - mean).abs() < 4.5 * z.std(0) / 200).all()
    shares = ours.responsibilities(z).mean(0)  # E p(y|z) = p(y)
    assert ((shares - ours.log_weights.exp()).abs() < 4.5 * (shares / 40_000).sqrt()).all()


def loop(components: DiagonalNormal | VonMisesFisher | CholeskyNormal, z: Tensor) -> Tensor:
    count = components.batch_shape[0]
    return torch.stack([components.take(torch.tensor(number)).log_prob(z) for number in range(count)], -1)


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("kind", ["normal", "normal of an image", "sphere", "cholesky"])
def test_the_density_of_each_component_agrees_with_a_loop(kind: str) -> None:
    torch.manual_seed(0)
    wide = torch.randn(2, 5, 4, dtype=torch.float64)
    components = {
        "normal": lambda: DiagonalNormal(*wide),
        "normal of an image": lambda: DiagonalNormal(*wide.view(2, 5, 2, 2), 2),
        "sphere": lambda: VonMisesFisher(unit(5, 4), torch.rand(5, dtype=torch.float64) * 30),
        "cholesky": lambda: CholeskyNormal(*wide, torch.randn(5, 4, 4, dtype=torch.float64)),
    }[kind]()
    z = unit(7, 6, 4).reshape(7, 6, *components.event_shape)
    found = log_prob_of_each(components, z)
    assert found.shape == (7, 6, 5)
    torch.testing.assert_close(found, loop(components, z))
    mixture = Mixture(components)
    torch.testing.assert_close(mixture.log_prob(z), loop(components, z).logsumexp(-1) - math.log(5))
    assert mixture.sample((9,)).shape == (9, *components.event_shape)


def test_narrow_components_are_accurate_in_float32() -> None:
    """Squares of 1e5 standard deviations are subtracted from each other: float32 alone would be off by nats."""
    loc = torch.tensor([[30.0, -30.0], [30.001, -30.0]])
    components = DiagonalNormal(loc, torch.full((2, 2), math.log(1e-3)))
    z = loc[:1] + 5e-4
    wanted = loop(DiagonalNormal(loc.double(), components.log_scale.double()), z.double())
    torch.testing.assert_close(log_prob_of_each(components, z).double(), wanted, rtol=1e-4, atol=1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(log_prob_of_each(components, z).double(), wanted, rtol=1e-4, atol=1e-3)
