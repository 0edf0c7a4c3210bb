"""Hierarchies against linear-Gaussian chains, quadrature, and enumeration of all images."""

import itertools
import math
from typing import cast

import pytest
import torch
from support.cases import Case
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from vaezoo import create
from vaezoo.core import VAE, sample_with_log_prob, seeded
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import CompositionError, ShapeError
from vaezoo.hierarchy import (
    HierarchicalPosterior,
    HierarchicalPrior,
    LevelObjective,
    LevelSpec,
    MarkovPath,
    combine,
    halving_sizes,
    level_specs,
)
from vaezoo.hierarchy.bottom_up import INITIAL_LOG_SCALE
from vaezoo.networks import MLP
from vaezoo.objectives import WeightedObjective
from vaezoo.priors import StandardNormalPrior

CPU = torch.device("cpu")
NAMES = ("ladder-vae", "top-down-vae", "two-layer-vae")
TINY: dict[str, dict[str, object]] = {
    "ladder-vae": {"widths": [6, 5], "latent": 3},
    "top-down-vae": {"width": 6, "blocks": [1, 2], "latent": 3, "backbone": {"name": "mlp", "hidden": [5]}},
    "two-layer-vae": {"top_hidden": [5], "latent": 3, "backbone": {"name": "mlp", "hidden": [5]}},
}
#: factor of the initial weights, so that levels are dependent and log-weights have light tails
WEIGHTS = {"ladder-vae": 1.5, "top-down-vae": 0.8, "two-layer-vae": 0.5}


def tiny(name: str, **changes: object) -> VAE:
    """Returns a model of four binary pixels."""
    torch.manual_seed(4)
    model = create(name, shape=(1, 2, 2), **TINY[name] | changes).double().eval()  # type: ignore[arg-type]  # by name
    with torch.no_grad():
        for head in model.encoder.heads if name == "ladder-vae" else ():
            head.head.bias[head.out[1] :] -= INITIAL_LOG_SCALE  # narrow proposals would give log-weights long tails
        for parameter in model.parameters():
            parameter *= WEIGHTS[name]
    return model


def affine(weight: Tensor, bias: Tensor, log_scale: Tensor) -> MLP:
    """Returns a network whose μ is affine and whose σ is constant."""
    after, before = weight.shape
    network = MLP((before,), (2, after), 0, [], "tanh").double()
    with torch.no_grad():
        network.head.weight.copy_(torch.cat([weight, torch.zeros_like(weight)]))
        network.head.bias.copy_(torch.cat([bias, log_scale]))
    return network


def linear_chain() -> tuple[MarkovPath, MultivariateNormal]:
    """Returns a chain of 1, 2 and 3 latents with affine means, and the normal that it is."""
    torch.manual_seed(0)
    sizes = (1, 2, 3)
    parts = [
        (torch.randn(b, a).double(), torch.randn(b).double(), 0.3 * torch.randn(b).double())
        for a, b in itertools.pairwise(sizes)
    ]
    mean, factor = [torch.zeros(1).double()], [torch.eye(6).double()[:1]]
    for (weight, bias, log_scale), start in zip(parts, (1, 3), strict=True):
        mean.append(weight @ mean[-1] + bias)
        own = torch.zeros(len(bias), 6).double()
        own[:, start : start + len(bias)] = log_scale.exp().diag()
        factor.append(weight @ factor[-1] + own)
    whole = torch.cat(factor)
    path = MarkovPath(sizes, [affine(*each) for each in parts]).double()
    return path, MultivariateNormal(torch.cat(mean), whole @ whole.T)


def test_a_linear_chain_has_the_density_of_a_normal() -> None:
    path, exact = linear_chain()
    prior = HierarchicalPrior(path)
    z = torch.randn(3, 5, 6).double()
    torch.testing.assert_close(prior.log_prob(z), exact.log_prob(z))
    torch.manual_seed(1)
    drawn = prior.sample((40_000,))
    whitened = torch.linalg.solve_triangular(exact.scale_tril, (drawn - exact.mean).T, upper=False)
    assert whitened.mean(1).abs().max() < 4 / 200
    assert (torch.cov(whitened) - torch.eye(6).double()).abs().max() < 4 * math.sqrt(2) / 200


def scalar_chain() -> tuple[tuple[float, ...], Tensor, Tensor]:
    """Returns (a, b, s, w, r) of z ~ N(0, 1), y ~ N(a z + b, s²), x ~ N(w y, r²), some x and their log p(x)."""
    a, b, s, w, r = 1.3, -0.4, 0.7, 0.9, 0.5
    x = torch.linspace(-3, 3, 7).double()
    spread = torch.tensor(w**2 * (a**2 + s**2) + r**2, dtype=torch.float64)
    return (a, b, s, w, r), x, Normal(torch.full_like(spread, w * b), spread.sqrt()).log_prob(x)


def test_at_the_true_posterior_of_two_layers_every_weight_is_the_evidence() -> None:
    (a, b, s, w, r), x, exact = scalar_chain()
    model = create(
        "two-layer-vae", shape=1, latent=2, top_hidden=[], backbone={"name": "mlp", "hidden": []},
        likelihood={"name": "gaussian", "scale": r},
    ).double()  # fmt: skip
    spread = a**2 + s**2  # of y
    gain = w * spread / (w**2 * spread + r**2)
    lower = 0.5 * math.log(spread - gain * w * spread)
    upper = a / spread
    with torch.no_grad():
        for network, weight, bias, log_scale in (
            (model.encoder.lower, gain, b - gain * w * b, lower),
            (model.encoder.upper, upper, -upper * b, 0.5 * math.log(1 - upper * a)),
            (model.prior.path.networks[0], a, b, math.log(s)),
        ):
            network.head.weight.copy_(torch.tensor([[weight], [0.0]]))
            network.head.bias.copy_(torch.tensor([bias, log_scale]))
        model.decoder.network.head.weight.fill_(w)
        model.decoder.network.head.bias.zero_()
    weights = model.infer(x[:, None], None, 9).log_weights()
    torch.testing.assert_close(weights, exact.expand(9, -1), rtol=0, atol=1e-6)


def test_the_ladder_posterior_of_a_linear_chain_is_the_true_posterior() -> None:
    """The likelihood of y is N(x / w, (r / w)²); its product with p(y|z) is the posterior of y given both."""
    (a, b, s, w, r), x, exact = scalar_chain()
    numbers = (torch.tensor(each, dtype=torch.float64) for each in ([[a]], [b], [math.log(s)]))
    path = MarkovPath((1, 1), [affine(*numbers)]).double()
    spread = (w * s) ** 2 + r**2
    top = 1 / (1 + (w * a) ** 2 / spread)

    def propose(level: int, state: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
        rows = len(state) // len(x)
        said = (x / w, math.log(r / w)) if level else (top * w * a * (x - w * b) / spread, 0.5 * math.log(top))
        loc = said[0].repeat(rows)[:, None]
        own = DiagonalNormal(loc, torch.full_like(loc, said[1]))
        return combine(own, prior) if level else own

    posterior = HierarchicalPosterior(path, propose, len(x))
    z, log_q = sample_with_log_prob(posterior, 9)
    weights = Normal(w * z[..., 1], r).log_prob(x) + HierarchicalPrior(path).log_prob(z) - log_q
    torch.testing.assert_close(weights, exact.expand(9, -1), rtol=0, atol=1e-9)
    torch.testing.assert_close(posterior.log_prob(z), log_q)


@pytest.mark.parametrize("scale", [0.0, 1.0, 14.0])
def test_combine_is_the_normalized_product_of_two_normals(scale: float) -> None:
    torch.manual_seed(3)
    one, other = (
        DiagonalNormal(torch.randn(4, 1).double(), scale * torch.randn(4, 1).double().tanh()) for _ in range(2)
    )
    found = combine(one, other)
    z = found.loc + found.stddev * torch.linspace(-3, 3, 5).double()[:, None, None]
    ratio = found.log_prob(z) - one.log_prob(z) - other.log_prob(z)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))
    assert torch.isfinite(found.loc).all() and (found.log_scale <= torch.minimum(one.log_scale, other.log_scale)).all()


# The variants themselves, by enumeration and quadrature


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_evidence_of_all_images_sums_to_one(name: str) -> None:
    model = tiny(name)
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).double().reshape(16, 1, 2, 2)
    with seeded(0):
        weights = model.infer(x, None, 6000).log_weights().exp()
    error = (weights.var(0) / len(weights)).sum().sqrt()
    assert error < 0.02 and (weights.mean(0).sum() - 1).abs() < 4 * error
    assert weights.mean(0).std() > 0.005


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_evidence_is_the_integral_over_the_levels(name: str) -> None:
    model = tiny(name, latent=2, **{"top-down-vae": {"blocks": [1, 1]}}.get(name, {}))
    side = torch.linspace(-9, 9, 181).double()
    grid = torch.cartesian_prod(side, side)[:, None]  # (cells, 1, 2)
    area = (side[1] - side[0]) ** 2
    x = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]]).double()
    prior = model.prior(None).log_prob(grid)
    exact = (model.decode(grid).log_prob(x) + prior).logsumexp(0) + area.log()
    torch.testing.assert_close((prior.exp() * area).sum(), torch.ones(()).double(), rtol=0, atol=2e-3)
    posterior = model.encode(x)
    assert ((posterior.log_prob(grid).exp() * area).sum() - 1).abs() < 2e-3
    weights = model.infer(x, None, 6000).log_weights().exp()
    assert (weights.mean() - exact.exp()).abs() < 4 * weights.std() / 20_000**0.5 + 2e-3 * exact.exp()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_densities_of_draws_are_those_of_any_z(name: str) -> None:
    model = tiny(name, context=2)
    x, c = torch.rand(5, 1, 2, 2).double().round(), torch.eye(2).double()[torch.arange(5) % 2]
    posterior = model.encode(x, c)
    z, log_q = sample_with_log_prob(posterior, 6)
    torch.testing.assert_close(posterior.log_prob(z), log_q)
    prior = model.prior(c)
    more = z.reshape(2, 3, 5, -1)
    torch.testing.assert_close(prior.log_prob(more).flatten(0, 1), prior.log_prob(z))
    torch.testing.assert_close(model.decode(more, c).mean.flatten(0, 1), model.decode(z, c).mean)
    single = [model.prior(c[i : i + 1]).log_prob(z[:, i : i + 1]) for i in range(5)]
    torch.testing.assert_close(torch.cat(single, 1), prior.log_prob(z))
    assert (model.prior(c.flip(1)).log_prob(z) - prior.log_prob(z)).abs().min() > 1e-6  # the context matters


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_centre_is_the_draw_without_noise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(name)
    posterior = model.encode(torch.rand(5, 1, 2, 2).double().round())
    monkeypatch.setattr(torch, "randn", lambda *sizes, **kinds: torch.zeros(*sizes, **kinds))
    torch.testing.assert_close(posterior.center, sample_with_log_prob(posterior, 1)[0][0])


# The objective with a term for each level


@pytest.mark.parametrize("name", ["ladder-vae", "top-down-vae"])
@torch.no_grad()
def test_one_top_down_pass_equals_three(name: str) -> None:
    model = tiny(name)
    x = torch.rand(5, 1, 2, 2).double().round()
    with seeded(1):
        elbo = model(x)
    with seeded(1):
        inference = model.infer(x)
    torch.testing.assert_close(elbo.distortion, inference.distortion())
    torch.testing.assert_close(elbo.bound, -elbo.distortion - elbo.rate)
    drawn = cast(HierarchicalPosterior, model.encode(x)).sample_levels((30_000,))
    sampled = drawn.log_q - model.prior(None).log_prob(drawn.z)
    error = (drawn.rates.sum(-1) - sampled).mean(0).abs()
    assert (error < 4 * sampled.std(0) / 30_000**0.5).all()
    assert drawn.rates.sum(-1).std(0).mean() < sampled.std(0).mean()  # the reason for closed forms


@torch.no_grad()
def test_each_level_has_free_nats_of_its_own() -> None:
    x = torch.rand(64, 1, 2, 2).double().round()
    model = tiny("top-down-vae", free_bits=0.2)
    objective = cast(LevelObjective, model.objective)
    elbo = model(x)
    rates = [elbo.terms[f"rate_{level}"] for level in (1, 2, 3)]
    torch.testing.assert_close(sum(rates), elbo.rate)
    assert sum(int((rate < 0.2).any()) for rate in rates) and sum(int((rate > 0.2).any()) for rate in rates)
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + sum(rate.clamp(min=0.2) for rate in rates))
    objective.schedule(warmup=10, free_bits=0.1)
    elbo = model(x, step=torch.tensor(5))
    rates = [elbo.terms[f"rate_{level}"] for level in (1, 2, 3)]
    torch.testing.assert_close(elbo.losses["model"], elbo.distortion + 0.5 * sum(rate.clamp(min=0.1) for rate in rates))
    torch.testing.assert_close(elbo.bound, -elbo.distortion - sum(rates))


# Sizes and grids


def test_sizes_double_from_level_to_level() -> None:
    assert halving_sizes((124,), "", 5) == (4, 8, 16, 32, 64) and halving_sizes((150,), "", 2) == (50, 100)
    for total, levels in itertools.product(range(1, 40), range(1, 8)):
        if total < levels:
            with pytest.raises(ShapeError, match=f"at least {levels} latents"):
                halving_sizes((total,), "it", levels)
        else:
            sizes = halving_sizes((total,), "it", levels)
            assert sum(sizes) == total and len(sizes) == levels and sorted(sizes) == list(sizes) and sizes[0] > 0
    with pytest.raises(ShapeError, match="one axis"):
        halving_sizes((4, 4), "it", 2)


def test_grids_double_from_the_top_down() -> None:
    found = [(level.grid, level.wider) for level in level_specs((7, 5), (1, 2, 1))]
    assert found == [((2, 2), 4), ((4, 3), 2), ((4, 3), 2), ((7, 5), 1)]
    assert level_specs((2, 1), (1, 1, 1)) == [LevelSpec((1, 1), 2), LevelSpec((1, 1), 2), LevelSpec((2, 1), 1)]
    with pytest.raises(ShapeError, match=r"latent = \[100\].*multiple of 81. Choose latent = 81, for 1"):
        create("top-down-vae", shape=(1, 28, 28), latent=100)
    with pytest.raises(ShapeError, match="one axis with at least 81"):
        create("top-down-vae", shape=(1, 28, 28), latent=64)
    backbone, units = {"name": "conv", "channels": [4, 6, 8]}, 4 * 4 + 2 * 16 + 2 * 64  # three grids
    model = create("top-down-vae", shape=(3, 64, 64), latent=units, blocks=[1, 1, 2], width=8, backbone=backbone)
    assert set(model(torch.rand(2, 3, 64, 64).round()).terms) == {"rate_1", "rate_2", "rate_3", "rate_4"}


@pytest.mark.parametrize("name", ["ladder-vae", "top-down-vae"])
def test_parts_of_a_hierarchy_need_each_other(name: str) -> None:
    model, (x, _) = Case(name).build(), Case(name).inputs(2)
    assert model.latent is not None
    plain = Case("vae").build(latent=model.latent)
    with pytest.raises(CompositionError, match=r"StandardNormalPrior; .* expected the prior of its hierarchy"):
        model.replace(prior=StandardNormalPrior((3,)))
    assert model.replace(objective=WeightedObjective())(x).losses
    elbo = model.replace(decoder=plain.decoder)(x)  # any other decoder receives z
    torch.testing.assert_close(sum(elbo.terms[each] for each in elbo.terms if each.startswith("rate_")), elbo.rate)
    with pytest.raises(CompositionError, match="DiagonalNormal; LevelObjective expected that of a hierarchy"):
        plain.replace(objective=LevelObjective())(x)


@pytest.mark.parametrize("backbone", [{"name": "mlp"}, {"name": "conv"}], ids=["mlp", "conv"])
@pytest.mark.parametrize("name", ["ladder-vae", "top-down-vae"])
def test_initialization_scales_the_proposals_of_each_level(name: str, backbone: dict[str, object]) -> None:
    options: dict[str, object] = {"blocks": [2, 2], "flat": True} if name == "top-down-vae" else {}
    torch.manual_seed(0)
    model = create(name, shape=(1, 8, 8), latent=48, backbone=backbone, **options)  # type: ignore[arg-type]  # by name
    x = torch.rand(200, 1, 8, 8)
    levels = cast(HierarchicalPrior, model.prior(None)).path.sizes

    def differences() -> Tensor:
        return torch.stack([each.std(0).mean() for each in model.encode(x).center.detach().split(levels, -1)])  # type: ignore[attr-defined]  # it has one

    faint = differences()
    model.initialize([(x[:120], None), (x[120:], None)])
    clear = differences()
    assert (faint < (0.03 if backbone["name"] == "conv" else 0.06)).all()
    least, most = (0.02, 1.2) if name == "top-down-vae" else (2.0, 3.3)
    assert (clear > least).all() and (clear < most).all()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.initialize([(x[:120], None), (x[120:], None)])
    if name == "ladder-vae":  # a second initialization changes nothing
        for key, value in model.state_dict().items():
            torch.testing.assert_close(value, before[key], rtol=1e-4, atol=1e-5)


def test_upsampling_between_grids_decides_on_the_checkerboard() -> None:
    """Equal features on the coarse grid, without the offset: 2 x 2 squares of equal features but for the border."""
    for upsampling, smooth in (("transposed", False), ("nearest", True), ("pixel-shuffle", True)):
        torch.manual_seed(0)
        model = create(
            "top-down-vae", shape=(1, 16, 16), backbone={"name": "conv", "channels": [4]}, upsampling=upsampling
        )
        block = model.prior.path.block(1)
        inner = block.enter(
            torch.randn(1, block.step.in_channels if not smooth else block.step.layer.in_channels, 1, 1).expand(
                1, -1, 4, 4
            )
        )[..., 2:-2, 2:-2]
        spread = float((inner - inner[..., :1, :1]).detach().abs().max())
        assert (spread < 1e-5) == smooth
        x = torch.rand(2, 1, 16, 16).round()
        assert torch.isfinite(model(x).bound).all() and model.sample(2).shape == x.shape
