"""Importance-weighted objectives: bounds by a double loop, gradients by quadrature."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import norm
from support.cases import Case
from support.gaussian_models import one_latent
from torch import Tensor

from vaezoo.core import ELBO, seeded
from vaezoo.decoders import Decoder
from vaezoo.encoders import PointEncoder
from vaezoo.errors import CompositionError
from vaezoo.likelihoods.gaussian import Gaussian
from vaezoo.networks import MLP
from vaezoo.objectives import GradientEstimator, ImportanceObjective
from vaezoo.objectives.importance import CombinedObjective, GroupedObjective, PartialObjective

GRADIENTS: tuple[GradientEstimator, ...] = ("plain", "sticking-the-landing", "doubly-reparametrized")


def log_mean(values: list[float]) -> float:
    return max(values) + math.log(math.fsum(math.exp(each - max(values)) for each in values) / len(values))


def both(objective: ImportanceObjective, count: int = 3) -> tuple[ELBO, list[list[float]]]:
    """Returns the ELBO of an objective, and by scipy the log weights [example][draw] of its own draws."""
    torch.manual_seed(0)
    model = one_latent(objective, count, loc=0.3, log_scale=-0.4, weight=1.3, noise=0.7)
    x = torch.randn(count, 1, dtype=torch.float64)
    with torch.no_grad(), seeded(5):
        elbo = model(x)
    with torch.no_grad(), seeded(5):
        z = model.infer(x, None, objective.samples).z[..., 0].numpy()
    weights = norm.logpdf(x[:, 0].numpy(), 1.3 * z, 0.7) + norm.logpdf(z) - norm.logpdf(z, 0.3, math.exp(-0.4))
    return elbo, weights.T.tolist()


@pytest.mark.parametrize(("samples", "groups"), [(1, 4), (4, 1), (3, 5)])
def test_the_bounds_of_miwae_and_piwae_equal_a_double_loop(samples: int, groups: int) -> None:
    for kind in (GroupedObjective, PartialObjective):
        elbo, weights = both(kind(samples, groups))
        for b, row in enumerate(weights):
            bounds = [log_mean([row[k * groups + m] for k in range(samples)]) for m in range(groups)]
            grouped = math.fsum(bounds) / groups
            own, encoder = (grouped, "model") if kind is GroupedObjective else (log_mean(row), "encoder")
            assert float(elbo.losses[encoder][b]) == pytest.approx(-grouped, rel=1e-9)
            assert float(elbo.losses["model"][b]) == pytest.approx(-own, rel=1e-9)
            assert float(elbo.bound[b]) == pytest.approx(own, rel=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.7, 1.0])
def test_ciwae_mixes_two_bounds_of_the_same_draws(beta: float) -> None:
    elbo, weights = both(CombinedObjective(6, beta))
    for b, row in enumerate(weights):
        mixed = beta * math.fsum(row) / len(row) + (1 - beta) * log_mean(row)
        assert float(elbo.losses["model"][b]) == pytest.approx(-mixed, rel=1e-9)
        assert float(elbo.bound[b]) == pytest.approx(log_mean(row), rel=1e-9)


@pytest.mark.parametrize(
    ("objective", "bound"),
    [
        (ImportanceObjective(6), lambda log_w: logsumexp(log_w, 0) - math.log(6)),
        (CombinedObjective(6, 0.3), lambda log_w: 0.3 * log_w.mean(0) + 0.7 * (logsumexp(log_w, 0) - math.log(6))),
        (GroupedObjective(2, 3), lambda log_w: np.mean([logsumexp(log_w[m::3], 0) for m in range(3)], 0)),
        (PartialObjective(2, 3), lambda log_w: logsumexp(log_w, 0)),
    ],
    ids=["iwae", "ciwae", "miwae", "piwae"],
)
def test_the_optimal_scale_maximizes_the_weighted_bound_of_its_draws(
    objective: ImportanceObjective, bound: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> None:
    """The maximum over σ for fixed draws, by scipy, is where an update leaves σ; that of equal weights is elsewhere."""
    torch.manual_seed(0)
    model = one_latent(objective, 5, loc=0.3, log_scale=0.2, weight=1.3)
    model.decoder = Decoder(model.decoder.network, Gaussian((1,), scale_kind="optimal").double())
    x = torch.randn(5, 1, dtype=torch.float64)
    with torch.no_grad(), seeded(5):
        z = model.infer(x, None, objective.samples).z[..., 0].numpy()

    def cost(log_scale: float) -> float:
        likelihood = norm.logpdf(x[:, 0].numpy(), 1.3 * z, math.exp(log_scale))
        return -float(bound(likelihood + norm.logpdf(z) - norm.logpdf(z, 0.3, math.exp(0.2))).mean())

    best = float(minimize_scalar(cost, bounds=(-4, 2), method="bounded", options={"xatol": 1e-10}).x)
    likelihood = model.decoder.likelihood
    likelihood.log_scale.fill_(best)
    with seeded(5):
        model.after_step([model(x).statistics], torch.tensor(0))
    assert float(likelihood.log_scale) == pytest.approx(best, abs=1e-6)
    assert 0.5 * math.log(((x[:, 0].numpy() - 1.3 * z) ** 2).mean()) > best + 0.05


LOC, LOG_SCALE, WEIGHT, NOISE, X = 0.4, -0.3, 1.2, 0.8, 1.1


def bound_by_quadrature(samples: int, loc: float, log_scale: float) -> float:
    """Returns E[log mean w] for one or two draws, by Gauss-Hermite quadrature."""
    nodes, masses = np.polynomial.hermite_e.hermegauss(90)
    masses, z = masses / masses.sum(), loc + math.exp(log_scale) * nodes
    log_w = norm.logpdf(X, WEIGHT * z, NOISE) + norm.logpdf(z) - norm.logpdf(z, loc, math.exp(log_scale))
    pairs = np.logaddexp(log_w[:, None], log_w[None, :]) - math.log(2)
    return float(masses @ log_w if samples == 1 else masses @ pairs @ masses)


def exact(samples: int) -> tuple[float, float]:
    """Returns the derivatives of the bound with respect to loc and log scale."""
    bounds = [
        [bound_by_quadrature(samples, LOC + a, LOG_SCALE + b) for a, b in ((step, 0), (0, step))]
        for step in (1e-4, -1e-4)
    ]
    return tuple((np.array(bounds[0]) - bounds[1]) / 2e-4)


def estimates(samples: int, gradient: GradientEstimator, rows: int = 40_000) -> list[Tensor]:
    """Returns independent estimates of the two derivatives, one a row."""
    objective = ImportanceObjective(samples, gradient)
    model = one_latent(objective, rows, loc=LOC, log_scale=LOG_SCALE, weight=WEIGHT, noise=NOISE)
    model(torch.full((rows, 1), X, dtype=torch.float64)).bound.sum().backward()
    return [parameter.grad[:, 0] for parameter in model.encoder.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_have_the_mean_that_quadrature_gives(samples: int, gradient: GradientEstimator) -> None:
    pairs = zip(estimates(samples, gradient), exact(samples), strict=True)
    errors = [abs(float(each.mean()) - value) / (float(each.std()) / len(each) ** 0.5) for each, value in pairs]
    biased = gradient == "sticking-the-landing" and samples > 1
    assert max(errors) > 8 if biased else max(errors) < 4


@pytest.mark.parametrize("gradient", ["sticking-the-landing", "doubly-reparametrized"])
def test_the_gradient_vanishes_at_the_true_posterior(gradient: GradientEstimator) -> None:
    precision = 1 + (WEIGHT / NOISE) ** 2
    model = one_latent(
        ImportanceObjective(5, gradient), 7, loc=WEIGHT * X / NOISE**2 / precision,
        log_scale=-0.5 * math.log(precision), weight=WEIGHT, noise=NOISE,
    )  # fmt: skip
    model(torch.full((7, 1), X, dtype=torch.float64)).bound.sum().backward()
    for parameter in model.encoder.parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() < 1e-12


@pytest.mark.parametrize("name", ["iwae", "cvae+iwae"])
def test_all_estimators_have_the_same_bound_and_decoder_gradient(name: str) -> None:
    case = Case(name, context=3)
    x, c = case.inputs(6, torch.float64)
    found = []
    for gradient in GRADIENTS:
        model = case.build(torch.float64, gradient=gradient)
        with seeded(2):
            elbo = model(x, c)
        parameters = [*model.decoder.parameters(), *model.prior.parameters()]
        found.append([elbo.bound.detach(), *torch.autograd.grad(elbo.losses["model"].mean(), parameters)])
        with torch.no_grad(), seeded(2):
            torch.testing.assert_close(model.eval()(x, c).bound, elbo.bound.detach())
    for other in found[1:]:
        for mine, plain in zip(other, found[0], strict=True):
            torch.testing.assert_close(mine, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gradient", ["sticking-the-landing", "doubly-reparametrized"])
def test_other_posteriors_are_refused_and_the_decoder_alone_can_be_trained(gradient: GradientEstimator) -> None:
    model, (x, _) = Case("iwae").build(gradient=gradient), Case("iwae").inputs(2)
    encoder = PointEncoder(MLP((1, 8, 8), (1, 16), 0, [], "relu"))
    with pytest.raises(CompositionError, match=r'type ContinuousDelta.*gradient = "plain"'):
        model.replace(encoder=encoder)(x)
    model.encoder.requires_grad_(False)
    model(x).losses["model"].mean().backward()
    assert all(p.grad is not None for p in model.decoder.parameters())
