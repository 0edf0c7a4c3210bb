"""Categories, relaxed and exact, against torch's own."""

import math

import pytest
import torch
from msgspec.structs import replace
from support.runs import fit, small_recipe, trainer
from torch import Tensor
from torch.distributions import Independent, Normal, OneHotCategorical, RelaxedOneHotCategorical, kl_divergence

from vaezoo.distributions import OneHotCategoricals, ProductDistribution, StandardNormal, normal_from
from vaezoo.registry import create


def logits(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_relaxed_draws_agree_with_torch() -> None:
    given = logits(5, 3, 4)
    for temperature in (0.3, 1.0, torch.tensor(2.5, dtype=torch.float64)):
        torch.manual_seed(3)
        ours, log_prob = OneHotCategoricals(given, 2, temperature).rsample_and_log_prob((7,))
        torch.manual_seed(3)
        torchs = RelaxedOneHotCategorical(torch.as_tensor(temperature, dtype=torch.float64), logits=given).rsample((7,))
        assert torch.allclose(ours, torchs, atol=1e-12)
        slope, expected = (torch.autograd.grad(each.square().sum(), given)[0] for each in (ours, torchs))
        assert torch.allclose(slope, expected, atol=1e-9) and slope.abs().max() > 1e-3
        assert torch.allclose(log_prob, (ours * given.log_softmax(-1)).sum((-1, -2)))


@torch.no_grad()
def test_probabilities_and_divergence_of_exact_draws_agree_with_torch() -> None:
    given, other = logits(2, 3, 4), logits(3, 4)
    ours, torchs = OneHotCategoricals(given, 2), Independent(OneHotCategorical(logits=given), 1)
    z, log_prob = ours.rsample_and_log_prob((40_000,))
    assert ((z == 0) | (z == 1)).all() and (z.sum(-1) == 1).all() and not ours.has_rsample
    assert torch.allclose(log_prob, torchs.log_prob(z))
    assert torch.allclose(z.mean(0), ours.mean, atol=4 * 0.5 / 200)
    assert torch.allclose(ours.entropy(), torchs.entropy())
    assert torch.equal(ours.center, ours.mode) and torch.equal(ours.mode.argmax(-1), given.argmax(-1))
    expected = kl_divergence(OneHotCategorical(logits=given), OneHotCategorical(logits=other.expand_as(given))).sum(-1)
    assert torch.allclose(kl_divergence(ours, OneHotCategoricals(other, 2)), expected)


@torch.no_grad()
def test_a_product_agrees_with_the_sum_of_its_parts() -> None:
    raw, first, second = logits(6, 2, 3), logits(6, 4), logits(6, 5)
    normal, zeros = normal_from(raw, 1), torch.zeros(3, dtype=torch.float64)
    joint = ProductDistribution([normal, OneHotCategoricals(first, 1), OneHotCategoricals(second, 1)])
    flat = [OneHotCategoricals(torch.zeros(size, dtype=torch.float64), 1) for size in (4, 5)]
    prior = ProductDistribution([StandardNormal(zeros, 1), *flat])
    categories = [OneHotCategorical(logits=each) for each in (first, second)]
    z, log_q = joint.rsample_and_log_prob((9,))
    assert z.shape == (9, 6, 12) and not joint.has_rsample and joint.support.is_discrete
    torchs = [Independent(Normal(normal.mean, normal.stddev), 1), *categories]
    pieces = z.split([3, 4, 5], -1)
    expected = sum(each.log_prob(piece) for each, piece in zip(torchs, pieces, strict=True))
    assert torch.allclose(log_q, expected) and torch.allclose(joint.log_prob(z), expected)
    rate = kl_divergence(torchs[0], Independent(Normal(zeros, 1.0), 1))
    rate = rate + sum(math.log(each.event_shape[0]) - each.entropy() for each in categories)
    assert torch.allclose(kl_divergence(joint, prior), rate)
    assert torch.equal(joint.center[:, :3], normal.mean)
    assert torch.equal(joint.center[:, 3:7].argmax(-1), first.argmax(-1))


@pytest.mark.parametrize("step", [0, 50, 100, 900, None])
def test_the_loss_of_joint_vae_agrees_with_distributions_of_torch(step: int | None) -> None:
    options = {"categories": [4, 3], "gamma": 7.0, "continuous_capacity": 3.0, "capacity_steps": 100}
    model = create("joint-vae", shape=(1, 8, 8), latent=9, **options).double().eval()
    x = torch.rand(5, 1, 8, 8).round().double()
    elbo = model(x, step=None if step is None else torch.tensor(float(step)))
    raw = model.encoder.network(x)
    normal = Normal(raw[:, :2], raw[:, 2:4].exp())
    continuous = kl_divergence(normal, Normal(0.0, 1.0)).sum(-1)
    discrete = sum(
        math.log(part.shape[1]) - OneHotCategorical(logits=part).entropy() for part in raw[:, 4:].split([4, 3], -1)
    )
    share = 1.0 if step is None else min(1.0, step / 100)
    most = math.log(4) + math.log(3)  # under the 5 nats that are asked for
    loss = elbo.distortion + 7.0 * ((continuous - 3.0 * share).abs() + (discrete - min(5.0 * share, most)).abs())
    assert torch.allclose(elbo.losses["model"], loss)
    assert torch.allclose(elbo.rate, continuous + discrete)
    assert torch.allclose(elbo.terms["rate_discrete"], discrete)


def test_the_temperature_falls_with_the_steps_to_its_end() -> None:
    model = create("categorical-vae", shape=(1, 8, 8), latent=(3, 4), temperature=2.0, cooling=0.01)
    found = []
    for step in (0, 100, 1000):
        model.after_step([{}], torch.tensor(float(step)))
        found.append(float(model.encoder.temperature))
    assert found == pytest.approx([2.0, 2.0 * math.exp(-1.0), 0.5])
    x = torch.rand(50, 1, 8, 8).round()
    relaxed = model.train().encode(x).rsample()
    assert ((relaxed > 1e-3) & (relaxed < 1 - 1e-3)).any()
    assert set(model.eval().encode(x).sample().unique().tolist()) == {0.0, 1.0}


@torch.no_grad()
def test_the_evidence_of_categories_is_the_sum_over_all_of_them() -> None:
    model = create("categorical-vae", shape=(1, 3, 3), latent=(2, 3)).double().eval()
    x = torch.rand(6, 1, 3, 3).round().double()
    corners = torch.eye(3, dtype=torch.float64)
    every = torch.stack([torch.stack([corners[i], corners[j]]) for i in range(3) for j in range(3)])
    log_likelihood = model.decode(every[:, None].expand(9, 6, 2, 3)).log_prob(x)
    exact = log_likelihood.logsumexp(0) - math.log(9)
    assert torch.allclose(model.log_evidence(x, samples=20_000, seed=0), exact, atol=0.02)
    assert (model(x).bound <= exact + 1e-9).float().mean() > 0.4  # a single draw scatters about its mean
    posterior = model.encode(x)
    log_q = posterior.log_prob(every[:, None])
    assert ((log_q.exp() * (log_likelihood - math.log(9) - log_q)).sum(0) <= exact).all()


@pytest.mark.full
def test_training_lowers_the_temperature_without_statistics() -> None:
    recipe = small_recipe("categorical-vae", steps=9)
    recipe = replace(recipe, options={"cooling": 0.1, "final_temperature": 0.1})
    assert float(fit(trainer(recipe)).model.encoder.temperature) == pytest.approx(math.exp(-0.8))
