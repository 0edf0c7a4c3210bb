"""Closed forms of objectives: capacity, constraint, learned scale, and autoencoders without a density."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm
from support.cases import Case
from support.gaussian_models import one_latent
from torch import Tensor, nn

from vaezoo.core import VAE, seeded
from vaezoo.errors import ConfigError
from vaezoo.objectives import WeightedObjective
from vaezoo.objectives.autoencoders import Corruption
from vaezoo.objectives.constraints import ConstraintObjective
from vaezoo.registry import create, variants

HALF = math.sqrt(0.5)  # of Gaussian pixels: the distortion is then the squared error and a constant


def test_the_capacity_penalizes_the_rate_that_quadrature_gives() -> None:
    model = Case("annealed-vae").build(torch.float64, latent=2, gamma=7.0, capacity=12.0, capacity_steps=50)
    x, _ = Case("annealed-vae").inputs(3, torch.float64)
    posterior = model.encode(x)

    def divergence(loc: float, scale: float) -> float:
        q = norm(loc, scale)
        return float(quad(lambda z: q.pdf(z) * (q.logpdf(z) - norm.logpdf(z)), loc - 12 * scale, loc + 12 * scale)[0])

    pairs = [zip(*rows, strict=True) for rows in zip(posterior.mean.tolist(), posterior.stddev.tolist(), strict=True)]
    rates = np.array([math.fsum(divergence(*pair) for pair in row) for row in pairs])
    for step, capacity in ((0, 0.0), (25, 6.0), (90, 12.0), (None, 12.0)):
        with torch.no_grad():
            elbo = model(x, step=None if step is None else torch.tensor(step))
        np.testing.assert_allclose(elbo.rate.numpy(), rates, rtol=1e-6)
        expected = elbo.distortion.numpy() + 7.0 * abs(rates - capacity)
        np.testing.assert_allclose(elbo.losses["model"].numpy(), expected, rtol=1e-6)


def test_the_multiplier_follows_the_running_mean_of_the_gap_and_stays_finite() -> None:
    objective = ConstraintObjective(target=10.0, speed=0.03)
    model = Case("vae").build(torch.float64).replace(objective=objective.double())
    x, _ = Case("vae").inputs(8, torch.float64)
    mean, log_multiplier = 0.0, 0.0
    for step in range(4):
        elbo, other = model(x), model(x)
        lagrangian = elbo.rate + math.exp(log_multiplier) * (elbo.distortion - 10.0)
        torch.testing.assert_close(elbo.losses["model"], lagrangian)
        torch.testing.assert_close(elbo.bound, -elbo.distortion - elbo.rate)
        model.after_step([elbo.statistics, other.statistics], torch.tensor(step))
        gap = 0.5 * float((elbo.distortion + other.distortion).detach().mean()) - 10.0
        mean = gap if step == 0 else 0.99 * mean + 0.01 * gap
        log_multiplier += 0.03 * mean
        assert float(objective.log_multiplier) == pytest.approx(log_multiplier, rel=1e-5)
    objective.target = -1e9  # unreachable
    model.after_step([model(x).statistics], torch.tensor(4))
    assert torch.isfinite(model(x).losses["model"]).all() and not model.eval()(x).statistics


def test_geco_has_no_default_target_and_a_speed_of_the_size_of_x() -> None:
    with pytest.raises(ConfigError, match=r"Got no target.*pass target=D"):
        create("geco-vae", shape=(1, 8, 8))
    for shape, speed in (((1, 28, 28), 1e-4), ((1, 8, 8), 1.225e-3), ((3, 32, 32), 2.5520833e-5)):
        objective = create("geco-vae", shape=shape, target=5.0).objective
        assert objective.speed == pytest.approx(speed) and objective.target == 5.0
    assert create("geco-vae", shape=(1, 8, 8), target=5.0, speed=0.3).objective.speed == 0.3


@pytest.mark.parametrize(("target", "words"), [(1e6, "below the target of 1e.06.*lower"), (-1e6, "above .*raise")])
def test_a_multiplier_at_its_limit_warns_once(target: float, words: str) -> None:
    objective = ConstraintObjective(target, speed=1e-3)
    for _ in range(99):
        objective.after_step([{"gap": torch.tensor(20.0 - target)}], torch.tensor(0))
    with pytest.warns(UserWarning, match=words):
        objective.after_step([{"gap": torch.tensor(20.0 - target)}], torch.tensor(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        objective.begin_stage(True)
        reachable = ConstraintObjective(20.0, speed=1e-3)
        for _ in range(300):
            reachable.after_step([{"gap": torch.tensor(40.0)}], torch.tensor(0))
        reachable.begin_stage(True)
    assert float(reachable.log_multiplier) == pytest.approx(300 * 0.04, rel=1e-4)


@pytest.mark.parametrize(("categories", "most"), [([10], math.log(10)), ([1000], 5.0), ([4, 6], math.log(24))])
def test_the_discrete_capacity_rises_as_in_the_papers_code(categories: list[int], most: float) -> None:
    """min(t·C/T, C, Σ log V), as in the authors' training.py: the slope does not depend on the number of categories."""
    options = {"categories": categories, "latent": sum(categories) + 3, "gamma": 2.0, "capacity_steps": 100}
    model = Case("joint-vae").build(torch.float64, discrete_capacity=5.0, continuous_capacity=3.0, **options)
    x, _ = Case("joint-vae").inputs(3, torch.float64)
    for step in (0, 30, 46, 50, 100, 300):
        elbo = model(x, step=torch.tensor(step))
        discrete, continuous = (elbo.terms[f"rate_{kind}"] for kind in ("discrete", "continuous"))
        gaps = abs(discrete - min(step * 5.0 / 100, 5.0, most)) + abs(continuous - min(step * 3.0 / 100, 3.0))
        torch.testing.assert_close(elbo.losses["model"].detach(), elbo.distortion.detach() + 2.0 * gaps)


def test_one_draw_of_a_sampled_rate_is_too_large_in_the_mean_by_the_mean_of_a_convex_function() -> None:
    """E|R - C| of one draw and of the mean of many, for q = N(0, s²) and p = N(0, 1), by quadrature."""
    scale, capacity = 0.4, 0.25
    exact = 0.5 * (scale**2 - 1) - math.log(scale)

    def drawn(z: float) -> float:
        return float(norm.logpdf(z, 0, scale) - norm.logpdf(z))

    mean = quad(lambda z: norm.pdf(z, 0, scale) * abs(drawn(z) - capacity), -4, 4, limit=200)[0]
    found = {}
    for samples in (1, 400):
        objective = WeightedObjective(capacity=capacity, samples=samples)
        model = one_latent(objective, 4000, log_scale=math.log(scale))
        inference = model.infer(torch.zeros(4000, 1, dtype=torch.float64), None, samples)
        estimate = (inference.log_q - inference.prior.log_prob(inference.z)).mean(0)
        found[samples] = float(objective.penalty(estimate.detach(), None).mean())
    assert found[1] == pytest.approx(mean, abs=0.03) and mean > abs(exact - capacity) + 0.1
    assert found[400] == pytest.approx(abs(exact - capacity), abs=0.01)


@pytest.mark.full
def test_the_multiplier_converges_to_the_lagrange_multiplier() -> None:
    """p(x|z) = N(z, s²): for a multiplier λ the best posterior has mean xλ/(λ + s²) and variance s²/(λ + s²)."""
    x, noise, target = 1.5, 0.5, 1.2

    def distortion(multiplier: float) -> float:
        mean, variance = x * multiplier / (multiplier + noise**2), noise**2 / (multiplier + noise**2)
        return 0.5 * math.log(2 * math.pi * noise**2) + ((x - mean) ** 2 + variance) / (2 * noise**2)

    exact = brentq(lambda multiplier: distortion(multiplier) - target, 1e-3, 1e3)
    objective = ConstraintObjective(target, speed=0.005).double()
    model = one_latent(objective, 256, loc=1.0, log_scale=-0.5, noise=noise)
    optimizer = torch.optim.SGD(model.encoder.parameters(), 0.05)
    multipliers = []
    for step in range(800):
        elbo = model(torch.full((256, 1), x, dtype=torch.float64))
        elbo.losses["model"].sum().backward(inputs=list(model.encoder.parameters()))
        optimizer.step()
        optimizer.zero_grad()
        model.after_step([elbo.statistics], torch.tensor(step))
        multipliers.append(float(objective.log_multiplier.exp()))
    assert math.fsum(multipliers[-100:]) / 100 == pytest.approx(exact, rel=0.1)
    loc, log_scale = (parameter.detach() for parameter in model.encoder.parameters())
    assert float(loc.mean()) == pytest.approx(x * exact / (exact + noise**2), rel=0.05)
    assert float((2 * log_scale).exp().mean()) == pytest.approx(noise**2 / (exact + noise**2), rel=0.1)


def test_the_shared_scale_has_the_maximum_likelihood() -> None:
    model = create("sigma-vae", shape=(1, 4, 4), latent=2, backbone={"name": "mlp", "hidden": [8]}).double()
    x = torch.randn(500, 1, 4, 4, dtype=torch.float64) * 3.0 + 1.0
    for step in range(100):
        model.after_step([model(x).statistics], torch.tensor(step))
    with torch.no_grad():
        errors = torch.stack([model.decode(model.infer(x).z[0]).mean - x for _ in range(20)]).numpy().ravel()
    best = minimize_scalar(lambda log: -norm.logpdf(errors, 0, math.exp(log)).sum(), bounds=(-5, 5), method="bounded").x
    scale = model.decode(torch.zeros(1, 2, dtype=torch.float64)).log_scale
    assert float(scale.flatten()[0]) == pytest.approx(best, abs=0.005)
    before = float(model.eval()(x).distortion.detach().mean())
    assert before == pytest.approx(-norm.logpdf(errors, 0, math.exp(best)).sum() / len(errors) * 16, rel=0.01)


def linear(name: str, width: int, latent: int, **options: object) -> VAE:
    """Returns a model of affine maps in float64 whose distortion is the squared error plus a constant."""
    torch.manual_seed(0)
    return create(
        name, shape=(width,), latent=latent, backbone={"name": "mlp", "hidden": []},
        likelihood={"name": "gaussian", "scale": HALF}, **options,
    ).double()  # fmt: skip


def constant(width: int) -> float:
    return 0.5 * width * math.log(2 * math.pi * 0.5)


def minimize(model: VAE, x: Tensor, parameters: list[nn.Parameter]) -> float:
    """Returns the minimum of the mean loss, by L-BFGS."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=400, tolerance_grad=1e-11, tolerance_change=1e-14,
                                  line_search_fn="strong_wolfe", history_size=30)  # fmt: skip

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).losses["model"].mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return float(closure().detach())


def data(count: int = 60, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    mixing = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) @ mixing + 0.7


def test_a_linear_autoencoder_finds_the_principal_components() -> None:
    """Baldi and Hornik, 1989: the loss is the variance of the components that are left out."""
    x = data()
    found = minimize(model := linear("ae", 5, 2), x, list(model.parameters()))
    eigenvalues = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))
    assert found - constant(5) == pytest.approx(eigenvalues[:3].sum(), rel=1e-6)


@pytest.mark.parametrize("corruption", ["masking", "gaussian"])
def test_the_distortion_of_a_corrupted_linear_autoencoder_is_exact(corruption: Corruption) -> None:
    """The mean over the noise in closed form, for x̂ = A x̃ + b; after Bishop, 1995."""
    model, x, level = linear("dae", 5, 2, corruption=corruption, level=0.3), data(6), 0.3
    offset = model.reconstruct(torch.zeros(1, 5, dtype=torch.float64))[0]
    matrix = (model.reconstruct(torch.eye(5, dtype=torch.float64)) - offset).T
    if corruption == "gaussian":
        exact = (x - x @ matrix.T - offset).square().sum(1) + level**2 * matrix.square().sum()
    else:
        kept = 1 - level
        exact = (x - kept * x @ matrix.T - offset).square().sum(1)
        exact += level * kept * x.square() @ matrix.square().sum(0)
    found = model(x.repeat(4000, 1)).distortion.detach().reshape(4000, 6) - constant(5)
    assert ((found.mean(0) - exact).abs() < 4 * found.std(0) / len(found) ** 0.5).all()
    clean = (x - model.reconstruct(x)).square().sum(1)
    torch.testing.assert_close(model.eval()(x).distortion - constant(5), clean)


def test_rae_l2_of_a_linear_decoder_is_ridge_regression() -> None:
    x, weight = data(), 0.2
    model = linear("rae-l2", 5, 2, beta=3.0, weight=weight)
    elbo, squares = model(x), 0.5 * model.encode(x).mean.square().sum(1)
    weights = sum(float(p.detach().square().sum()) for p in model.decoder.parameters())
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + 3.0 * squares + weight * weights)
    torch.testing.assert_close(elbo.rate, squares + math.log(2 * math.pi))  # -log p(z)
    minimize(model, x, list(model.decoder.parameters()))
    z = model.encode(x).mean.detach().numpy()
    inputs = np.concatenate([z, np.ones((len(z), 1))], 1)
    solution = np.linalg.solve(inputs.T @ inputs + len(x) * weight * np.eye(3), inputs.T @ x.numpy())
    np.testing.assert_allclose(model.reconstruct(x).numpy(), inputs @ solution, atol=1e-6)


def test_the_mean_of_the_jacobian_penalty_is_exact() -> None:
    case = Case("rae-gp")
    model, (x, _) = case.build(torch.float64, latent=3), case.inputs(4, torch.float64)
    exact = [
        torch.autograd.functional.jacobian(lambda each: model.decode(each[None]).mean[0], row).square().sum()
        for row in model.encode(x).mean.detach()
    ]
    found = model(x.repeat(2000, 1, 1, 1)).terms["slope"].reshape(2000, 4)
    assert ((found.mean(0) - torch.stack(exact)).abs() < 4 * found.std(0) / len(found) ** 0.5).all()


def test_the_gradient_of_the_jacobian_penalty_equals_finite_differences() -> None:
    """With fixed signs, for biases of the decoder and the encoder; the loss itself needs no gradients."""
    case = Case("rae-gp")
    model, (x, _) = case.build(torch.float64, weight=5.0, beta=0.0), case.inputs(3, torch.float64)

    def loss(bias: Tensor, name: str) -> Tensor:
        with seeded(2):
            return torch.func.functional_call(model, {name: bias}, (x,)).losses["model"].mean()

    for name in ("decoder.network.layers.0.bias", "encoder.network.head.bias"):
        bias = model.get_parameter(name).detach().clone().requires_grad_()
        assert torch.autograd.gradcheck(loss, (bias, name))
        assert torch.autograd.grad(loss(bias, name), [bias])[0].any()
    with torch.no_grad():
        assert not loss(bias, name).requires_grad
    model.encoder.requires_grad_(False)
    model(x).losses["model"].mean().backward()
    assert all(p.grad is not None for p in model.decoder.parameters())


OBJECTIVES = [
    name for name in variants.names() if (entry := variants.get(name)).changes == ("objective",) and not entry.requires
]


@pytest.mark.parametrize("name", [*OBJECTIVES, "aae", "wae-gan"])
def test_every_objective_trains_a_learned_prior(name: str) -> None:
    case = Case(f"cvae+{name}", context=3)
    model, (x, c) = case.build(), case.inputs(6)
    elbo = model(x, c)
    assert all(torch.isfinite(loss).all() for loss in elbo.losses.values())
    own = list(model.prior.parameters())
    (player,) = (name for name, theirs in model.players().items() if id(own[0]) in map(id, theirs))
    assert player != "critic"
    gradients = torch.autograd.grad(elbo.losses[player].mean(), own)
    assert all(bool(torch.isfinite(each).all()) and bool(each.any()) for each in gradients)


@pytest.mark.parametrize(
    ("name", "options"), [("beta-tc-vae", {"beta": 1.0}), ("info-vae", {"alpha": 0.0, "weight": 1.0})]
)
def test_penalties_without_weight_are_left_out(name: str, options: dict[str, object]) -> None:
    model = Case(name).build(torch.float64, **options)
    elbo = model(Case(name).inputs(4, torch.float64)[0])
    assert torch.equal(elbo.losses["model"], elbo.distortion + elbo.rate) and not elbo.terms
