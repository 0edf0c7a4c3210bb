"""Bounds, densities and rates against exact values and inequalities."""

import math

import pytest
import torch
from support.cases import NAMES, ONE_EACH, ROTATING, Case, contexts_of, likelihoods_of, over
from support.gaussian_models import linear_gaussian
from torch import Tensor
from torch.distributions import Normal

from vaezoo.core import VAE, Objective, code_indices, is_deterministic, sample_with_log_prob
from vaezoo.distributions import DiagonalNormal
from vaezoo.encoders import PointEncoder
from vaezoo.errors import NoDensityError, ShapeError
from vaezoo.networks import MLP
from vaezoo.objectives import ImportanceObjective, WeightedObjective

#: every likelihood on perceptrons with both contexts in turn, and other backbones
EVIDENCE = [
    Case(name, likelihood=likelihood, context=contexts_of(name)[position % 2 - 1])
    for name in NAMES
    for position, likelihood in enumerate(likelihoods_of(name))
]
EVIDENCE += [case for case in ROTATING if case not in EVIDENCE]


def standard_error(values: Tensor) -> Tensor:
    return values.std() / len(values) ** 0.5


@over(EVIDENCE)
@torch.no_grad()
def test_the_bound_is_below_the_evidence(case: Case) -> None:
    model, (x, c) = case.build().eval(), case.inputs(128)
    if not case.has_density:
        assert torch.isneginf(model(x, c).bound).all()
        return
    gap = model.log_evidence(x, c, samples=20) - model(x, c).bound
    assert gap.mean() >= -4 * standard_error(gap) - 1e-3


@torch.no_grad()
def test_the_evidence_does_not_depend_on_chunks() -> None:
    case = Case("cvae", context=3)
    model, (x, c) = case.build(torch.float64).eval(), case.inputs(25, torch.float64)
    whole = model.log_evidence(x, c, samples=1000, seed=0)
    pieces = model.log_evidence(x, c, samples=1000, seed=0, chunk=64 * 70)
    assert not torch.equal(whole, pieces) and (whole - pieces).abs().max() < 0.5
    assert (whole - pieces).mean().abs() < 4 * standard_error(whole - pieces)


# Linear-Gaussian models, whose evidence is known


@pytest.mark.parametrize("orthogonal", [True, False])
def test_at_the_true_posterior_every_weight_is_the_evidence(orthogonal: bool) -> None:
    model, x, exact = linear_gaussian(orthogonal)
    weights = model.infer(x, None, 7).log_weights()
    torch.testing.assert_close(weights, exact.expand_as(weights), rtol=0, atol=1e-9)
    torch.testing.assert_close(model.log_evidence(x, samples=3), exact, rtol=0, atol=1e-9)
    if orthogonal:  # the rate is in closed form
        inference = model.infer(x, None, 20_000)
        error = inference.distortion() + inference.rate() + exact
        assert error.abs().max() < 0.1


def test_at_another_posterior_the_evidence_is_within_a_hundredth() -> None:
    model, x, exact = linear_gaussian(False, shift=0.1, widen=1.2)
    assert (model.log_evidence(x, samples=20_000, seed=0) - exact).abs().max() < 0.01
    bound = torch.stack([model(x).bound for _ in range(200)]).mean(0)
    assert (exact - bound).mean() > 0.05


# Without a density


@pytest.mark.parametrize("objective", [WeightedObjective(), ImportanceObjective(3)], ids=["weighted", "importance"])
def test_without_a_density_there_is_no_bound(objective: Objective) -> None:
    encoder = PointEncoder(MLP((1, 8, 8), (1, 16), 0, [], "relu"))
    model = Case("vae").build().replace(encoder=encoder, objective=objective)
    x, _ = Case("vae").inputs(4)
    elbo = model(x)
    assert elbo.bound.tolist() == [-math.inf] * 4
    assert torch.isfinite(elbo.losses["model"]).all() and torch.isfinite(elbo.distortion).all()
    assert model.objective(model, x).bound.tolist() == [-math.inf] * 4  # without input checks, as in training
    assert model.reconstruct(x).shape == x.shape
    with pytest.raises(NoDensityError, match="point mass"):
        model.log_evidence(x, samples=3)


def test_examples_without_a_density_have_no_bound() -> None:
    x, _ = Case("vae").inputs(3)
    x[1] = 0.5
    elbo = Case("vae").build()(x)
    assert torch.isfinite(elbo.bound).tolist() == [True, False, True] and torch.isfinite(elbo.losses["model"]).all()


# log q and the rate


@over(ROTATING)
@torch.no_grad()
def test_log_q_is_the_density_of_the_drawn_z(case: Case) -> None:
    model, (x, c) = case.build(torch.float64).eval(), case.inputs(3, torch.float64)
    posterior = model.encode(x, c)
    z, log_q = sample_with_log_prob(posterior, 6)
    assert log_q.shape == (6, 3) and z.shape[:2] == (6, 3)
    if isinstance(posterior, DiagonalNormal):
        wanted = Normal(posterior.loc, posterior.log_scale.exp()).log_prob(z).flatten(2).sum(-1)
        torch.testing.assert_close(log_q, wanted)
        torch.testing.assert_close(posterior.log_prob(z), wanted)
    assert torch.isfinite(log_q).all()


def smallest(case: Case) -> VAE:
    """Returns the model with the smallest number of latents that the variant accepts."""
    for latent in (*range(1, 13), None):
        try:
            return case.build(torch.float64, latent=latent)
        except ShapeError:
            pass
    raise AssertionError("no small latent")


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_in_few_dimensions_the_density_has_mass_one(name: str) -> None:
    """E_q[1(z in a box) / q(z)] is the box's volume for any density, times the number of outcomes of categories.

    Two dimensions may be a circle, where z is the angle. Codes have probabilities up to 1.
    """
    case = Case(name, context=contexts_of(name)[0])
    model = smallest(case)
    x, c = case.inputs(2, torch.float64)
    posterior = model.eval().encode(x, c)
    z, log_q = sample_with_log_prob(posterior, 30_000)
    if code_indices(posterior) is not None:
        assert (log_q <= 0).all()
        return
    if not case.has_density:
        assert (z == posterior.mean).all() and not log_q.any()
        return
    corners = ((z == 0) | (z == 1)).all(0).all(0) & (z.shape[2] > 1)
    for example in range(2):
        outcomes = len(z[:, example, corners].unique(dim=0)) if corners.any() else 1
        points = z[:, example, ~corners]
        if points.shape[1] == 2 and (points.norm(dim=1) - 1).abs().max() < 1e-9:
            points = torch.atan2(points[:, 1:], points[:, :1])
        assert points.shape[1] <= 2
        low, high = points.sort(0).values[[3_000, 27_000]]
        estimate = ((points > low) & (points < high)).all(1) * (-log_q[:, example]).exp()
        assert (estimate.mean() - outcomes * (high - low).prod()).abs() < 4 * standard_error(estimate)


@over(ONE_EACH, ONE_EACH)
@torch.no_grad()
def test_the_rate_in_closed_form_is_the_sampled_one(case: Case) -> None:
    model, (x, c) = case.build(torch.float64).eval(), case.inputs(6, torch.float64)
    c = None if model.takes_unlabelled else c  # the bound is on log p(x), with or without labels
    inference = model.infer(x, model.check_context(c, 6), 3 if is_deterministic(model.encode(x, c)) else 2000)
    sampled = inference.log_q - inference.prior.log_prob(inference.z)
    if any(entry.rate == "sampled" for entry in case.entries):
        torch.testing.assert_close(inference.rate(), sampled.mean(0))
        own = torch.stack([model(x, c).rate for _ in range(40)])
        assert (own.mean(0) - inference.rate()).abs().max() < 5 * sampled.std(0).max() / len(own) ** 0.5 + 1e-9
    else:
        error = (inference.rate() - sampled.mean(0)).abs()
        assert (error <= 4 * sampled.std(0) / len(sampled) ** 0.5 + 1e-9).all()
        torch.testing.assert_close(model(x, c).rate, inference.rate())
    assert (inference.rate() >= 0).all()
