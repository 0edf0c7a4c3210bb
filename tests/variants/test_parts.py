"""Variants of prior and posterior: initialization, references between parts, clusters."""

import math

import pytest
import torch
from support.cases import Case
from torch import Tensor
from torch.distributions import kl_divergence

from vaezoo.core import center, sample_with_log_prob, seeded
from vaezoo.distributions import CholeskyNormal, Mixture
from vaezoo.errors import CompositionError, ShapeError
from vaezoo.evaluation import clustering_accuracy
from vaezoo.registry import create

SHAPE = (1, 8, 8)
CPU = torch.device("cpu")


# The mixture of posteriors


@pytest.mark.parametrize("context", [0, 3])
def test_the_prior_is_the_mean_of_the_posteriors_of_its_inputs(context: int) -> None:
    model = Case("vamp-vae", context=context).build(torch.float64, latent=3)
    z = torch.randn(5, 2, 3, dtype=torch.float64)
    contexts = model.prior.contexts
    total = torch.zeros(5, 2, dtype=torch.float64)
    for number in range(4):
        own = None if contexts is None else contexts[number : number + 1]
        posterior = model.encoder(model.prior.inputs[number : number + 1], own)
        normal = torch.distributions.Normal(posterior.loc[0], posterior.stddev[0])
        total += normal.log_prob(z).sum(-1).exp() / 4
    c = torch.eye(3, dtype=torch.float64)[:2] if context else None
    torch.testing.assert_close(model.prior(c).log_prob(z), total.log())


def test_pseudo_inputs_start_at_training_images_with_their_contexts() -> None:
    case = Case("vamp-vae", context=3)
    model, (x, c) = case.build(), case.inputs(9)
    vectors = model.check_context(c, 9)
    model.initialize([(x[:5], vectors[:5]), (x[5:], vectors[5:])])
    for own, given in zip(model.prior.inputs, model.prior.contexts, strict=True):
        place = int((x == own).flatten(1).all(1).nonzero()[0])
        assert torch.equal(vectors[place], given)
    assert len({tuple(own.flatten().tolist()) for own in model.prior.inputs}) == 4
    few = case.build()
    few.initialize([(x[:1], vectors[:1])])
    assert torch.equal(few.prior.inputs, x[:1].expand(4, -1, -1, -1))


def test_one_step_encodes_the_pseudo_inputs_once() -> None:
    model, (x, _) = Case("vamp-vae").build(), Case("vamp-vae").inputs(6)
    rows: list[int] = []
    model.encoder.network.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    model(x)
    assert sorted(rows) == [4, 6]


@pytest.mark.parametrize("name", ["planar-vae", "iaf-vae", "hamiltonian-vae"])
def test_a_posterior_without_densities_of_other_z_is_no_component(name: str) -> None:
    for composed in (f"{name}+vamp-vae", f"vamp-vae+{name}"):
        with pytest.raises(CompositionError, match=r"vamp-vae needs a density .* flow-prior-vae"):
            create(composed, shape=SHAPE)


# The mixture of clusters


def blobs(count: int = 300) -> tuple[Tensor, Tensor]:
    """Returns binary images of three kinds, and the kind of each."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(3, (count,), generator=generator)
    p = torch.full((3, *SHAPE), 0.05)
    for each in range(3):
        p[each, :, :, 3 * each : 3 * each + 2] = 0.95
    return torch.bernoulli(p[kind], generator=generator), kind


def test_clusters_are_found() -> None:
    torch.manual_seed(0)
    model = create("vade", shape=SHAPE, latent=4, clusters=3, backbone={"name": "mlp", "hidden": [32]})
    x, kind = blobs()
    optimizer = torch.optim.Adam([*model.encoder.parameters(), *model.decoder.parameters()], 1e-2)
    for step in range(160):
        if step == 80:
            model.initialize([(x, None)], ["prior"])
            optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        optimizer.zero_grad()
        model(x).losses["model"].mean().backward()
        optimizer.step()
    shares = model.prior.responsibilities(center(model.encode(x)))
    assert shares.shape == (300, 3)
    torch.testing.assert_close(shares.sum(-1), torch.ones(300))
    found = shares.argmax(-1)
    table = torch.stack([((found == a) & (kind == b)).sum() for a in range(3) for b in range(3)]).view(3, 3)
    assert table.max(1).values.sum() > 0.95 * 300 and sorted(table.argmax(1).tolist()) == [0, 1, 2]


def test_the_mixture_is_fitted_to_draws_of_the_posteriors() -> None:
    model, (x, _) = Case("vade").build(torch.float64, latent=2), Case("vade").inputs(200, torch.float64)
    with torch.no_grad():
        model.encoder.network.head.bias[2:] = -1.0  # log σ, so that posteriors are as wide as they lie apart
    torch.manual_seed(3)
    z = torch.cat([sample_with_log_prob(model.encode(part), 1)[0][0] for part in (x[:120], x[120:])])
    torch.manual_seed(3)
    model.initialize([(x[:120], None), (x[120:], None)])
    prior = model.prior()
    assert isinstance(prior, Mixture)
    # Whatever the shares are, those of all clusters together have the moments of all draws.
    shares = prior.log_weights.exp()
    mean = (shares @ model.prior.loc).detach()
    second = (shares @ (model.prior.loc.square() + (2 * model.prior.log_scale).exp())).detach()
    torch.testing.assert_close(mean, z.mean(0), rtol=0, atol=1e-3)
    torch.testing.assert_close(second, z.square().mean(0), rtol=0, atol=1e-3)
    before = create("vade", shape=SHAPE, latent=2, clusters=3).double().prior()
    assert prior.log_prob(z).mean() > before.log_prob(z).mean()


def test_clusters_along_the_diagonal_are_found() -> None:
    """Two clusters along the diagonal, which a mixture with diagonal covariances divides differently."""
    model = create("vade", shape=2, latent=2, clusters=2, backbone={"name": "mlp", "hidden": []}).double()
    generator = torch.Generator().manual_seed(0)
    along, across = (torch.randn(2000, generator=generator, dtype=torch.float64) for _ in range(2))
    kind = torch.arange(2000) % 2
    z = torch.stack([along + 0.2 * across + 1.5 * kind, along - 0.2 * across - 1.5 * kind], 1)
    with torch.no_grad():
        model.encoder.network.head.weight.copy_(torch.cat([torch.eye(2), torch.zeros(2, 2)]))
        model.encoder.network.head.bias.copy_(torch.tensor([0.0, 0.0, -5.0, -5.0]))
    model.initialize([(z, None)], ["prior"])
    centers = model.prior.loc.detach()
    offset = (centers[:, 0] - centers[:, 1]).sort().values / 2
    torch.testing.assert_close(offset, torch.tensor([0.0, 1.5], dtype=torch.float64), rtol=0, atol=0.05)


def test_covariances_are_not_estimated_from_too_few_images() -> None:
    """50 examples of a cluster do not determine a covariance of 50 latents: full covariances merge clusters."""
    model = create("vade", shape=50, latent=50, clusters=10, backbone={"name": "mlp", "hidden": []}).double()
    generator = torch.Generator().manual_seed(0)
    kind = torch.arange(500) % 10
    centers = torch.zeros(10, 50, dtype=torch.float64)
    centers[:, :5] = 4 * torch.randn(10, 5, generator=generator, dtype=torch.float64)
    z = centers[kind] + torch.randn(500, 50, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        model.encoder.network.head.weight.copy_(torch.cat([torch.eye(50), torch.zeros(50, 50)]))
        model.encoder.network.head.bias.copy_(torch.cat([torch.zeros(50), torch.full((50,), -5.0)]))
    torch.manual_seed(0)
    model.initialize([(z, None)], ["prior"])
    assert clustering_accuracy(model.prior.responsibilities(z).argmax(-1), kind) > 0.95


def test_the_mixture_can_be_initialized_from_any_latents() -> None:
    model, (x, _) = Case("vade").build(torch.float64, latent=2, clusters=4), Case("vade").inputs(3, torch.float64)
    before = model(x).bound.mean()
    model.initialize([(x, None)], ["prior"])  # fewer images than clusters: several draws of each
    assert model(x).bound.mean() > before - 20  # of copies of one draw the clusters would have no width
    model.initialize([(x[:1], None)], ["prior"])
    assert torch.isfinite(model(x).bound).all()
    loc, bias = model.prior.loc.detach().clone(), model.encoder.network.head.bias
    with torch.no_grad():
        bias.fill_(math.nan)
    model.initialize([(x, None)], ["prior"])
    assert torch.equal(model.prior.loc, loc)  # latents that are not finite change nothing
    model = create("vade", shape=3, latent=30, clusters=2, backbone={"name": "mlp", "hidden": []}).double()
    with torch.no_grad():
        model.encoder.network.head.weight[:30] *= 1e5
        model.encoder.network.head.bias[30:] = -8.0
    x = torch.rand(600, 3, dtype=torch.float64)
    model.initialize([(x, None)], ["prior"])
    assert torch.isfinite(model.prior().log_prob(model.encode(x).mean)).all()


# Flows and full covariances


@pytest.mark.parametrize("context", [0, 3])
def test_a_flow_prior_is_initially_the_standard_normal(context: int) -> None:
    ours, plain = Case("flow-prior-vae", context=context), Case("vae", context=context)
    flow, vae = ours.build(torch.float64), plain.build(torch.float64)
    vae.load_state_dict({key: value for key, value in flow.state_dict().items() if not key.startswith("prior.")})
    x, c = plain.inputs(512, torch.float64)
    with seeded(1):
        one = flow(x, c)
    with seeded(1):
        other = vae(x, c)
    torch.testing.assert_close(one.distortion, other.distortion)
    difference = one.rate - other.rate  # sampled against in closed form
    assert difference.mean().abs() < 4 * difference.std() / 512**0.5


def test_without_correlations_a_full_covariance_is_diagonal() -> None:
    model, (x, _) = Case("full-covariance-vae").build(torch.float64), Case("vae").inputs(5, torch.float64)
    posterior = model.encode(x)
    assert isinstance(posterior, CholeskyNormal) and posterior.factor.shape == (5, 16, 16)
    off = posterior.factor.tril(-1)
    assert (off[:, *torch.tril_indices(16, 16, -1)] != 0).all() and torch.equal(posterior.factor.triu(1), off * 0)
    plain = torch.distributions.Independent(torch.distributions.Normal(posterior.loc, posterior.log_diagonal.exp()), 1)
    alone = CholeskyNormal(posterior.loc, posterior.log_diagonal, torch.zeros_like(off))
    torch.testing.assert_close(alone.log_prob(posterior.loc + 0.3), plain.log_prob(posterior.loc + 0.3))
    rate = kl_divergence(posterior, model.prior()) - kl_divergence(alone, model.prior())
    torch.testing.assert_close(rate, 0.5 * off.square().sum((1, 2)))


def test_the_rate_of_a_full_covariance_under_a_learned_prior_is_in_closed_form() -> None:
    model = create("full-covariance-vae+cvae", shape=SHAPE, context=3, latent=4).double()
    x, c = Case("cvae", context=3).inputs(4, torch.float64)
    inference = model.infer(x, model.check_context(c, 4), 20_000)
    sampled = inference.log_q - inference.prior.log_prob(inference.z)
    assert ((inference.rate() - sampled.mean(0)).abs() < 4.5 * sampled.std(0) / 20_000**0.5).all()


@pytest.mark.parametrize(
    ("name", "latent", "expected"),
    [
        ("s-vae", 1, "s-vae expected one axis"),
        ("s-vae", [4, 2, 2], "s-vae expected one axis"),
        ("full-covariance-vae", [4, 2, 2], "full-covariance-vae expected one axis"),
        ("categorical-vae", [4, 1], "V of 2 or more"),
        ("joint-vae", 10, "more than the 10"),
    ],
)
def test_invalid_latents_are_refused(name: str, latent: object, expected: str) -> None:
    with pytest.raises(ShapeError, match=rf"Got latent = .*{expected}"):
        create(name, shape=SHAPE, latent=latent)


def test_reconstructions_of_spheres_are_at_the_mode() -> None:
    model, (x, _) = Case("s-vae").build(), Case("s-vae").inputs(3)
    posterior = model.encode(x)
    assert torch.equal(center(posterior), posterior.mode) and (center(posterior).norm(dim=-1) - 1).abs().max() < 1e-6
    assert (posterior.concentration > 0).all()
    z = model.prior().sample((50,))
    assert (z.norm(dim=-1) - 1).abs().max() < 1e-6
