"""Exact equalities between variants, and between a batch and its examples."""

import pytest
import torch
from support.cases import NAMES, ROTATING, Case, contexts_of, over
from support.noise import SharedNoise
from torch import Tensor

from vaezoo.core import VAE, seeded
from vaezoo.objectives import PenalizedObjective
from vaezoo.registry import backbones

CPU = torch.device("cpu")
B = 7  # occurs in no shape of these cases


def gradients(loss: Tensor, model: VAE) -> list[Tensor]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss.mean(), parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("backbone", backbones.names())
@pytest.mark.parametrize("context", [0, 3])
def test_beta_one_is_the_vae(backbone: str, context: int) -> None:
    plain, weighted = (Case(name, backbone=backbone, context=context) for name in ("vae", "beta-vae"))
    vae, beta = plain.build(torch.float64), weighted.build(torch.float64, beta=1.0)
    beta.load_state_dict(vae.state_dict())
    x, c = plain.inputs(B, torch.float64)
    with seeded(3):
        one = vae(x, c)
    with seeded(3):
        other = beta(x, c)
    for name in ("distortion", "rate", "bound"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert torch.equal(one.losses["model"], other.losses["model"])
    assert all(map(torch.equal, gradients(one.losses["model"], vae), gradients(other.losses["model"], beta)))


def test_beta_weights_the_rate_alone() -> None:
    x, _ = Case("vae").inputs(B, torch.float64)
    for beta in (0.0, 0.5, 7.0):
        elbo = Case("beta-vae").build(torch.float64, beta=beta)(x)
        torch.testing.assert_close(elbo.losses["model"], elbo.distortion + beta * elbo.rate)
        torch.testing.assert_close(elbo.bound, -elbo.distortion - elbo.rate)


@pytest.mark.parametrize("name", ["iwae", "cvae+iwae"])
def test_one_importance_sample_is_its_log_weight(name: str) -> None:
    case = Case(name, context=3)
    model, (x, c) = case.build(torch.float64, samples=1), case.inputs(B, torch.float64)
    with seeded(4):
        bound = model(x, c).bound
    with seeded(4):
        weights = model.infer(x, model.check_context(c, B)).log_weights()
    assert weights.shape == (1, B) and torch.equal(bound, weights[0])


@pytest.mark.parametrize("name", [name for name in NAMES if 0 in contexts_of(name)])
def test_a_zero_width_context_is_none(name: str) -> None:
    case = Case(name)
    model, (x, _) = case.build().eval(), case.inputs(B)
    with seeded(1):
        one = model(x)
    with seeded(1):
        other = model(x, torch.zeros(B, 0))
    assert all(torch.equal(one.losses[key], other.losses[key]) for key in one.losses)
    assert torch.equal(model.sample(B, seed=1), model.sample(B, torch.zeros(B, 0), seed=1))
    assert torch.equal(model.reconstruct(x), model.reconstruct(x, torch.zeros(B, 0)))


def shared(model: VAE, x: Tensor, c: Tensor | None) -> dict[str, Tensor]:
    """Returns the values of a batch under noise that is equal for all examples."""
    with torch.random.fork_rng(devices=[]), SharedNoise(len(x)):
        elbo = model(x, c)
    figures = {"distortion": elbo.distortion, "rate": elbo.rate, "bound": elbo.bound}
    # The loss without its penalties.
    if isinstance(model.objective, PenalizedObjective) and "model" in elbo.losses:
        weighted = [weight * elbo.terms[name] for name, (weight, _) in model.objective.penalties.items()]
        if "adversarial_weight" in elbo.terms:  # a ratio of gradients of the whole batch
            weighted.append(model.objective.weight * elbo.terms["adversarial_weight"] * elbo.terms["adversarial"])
        figures["rest"] = elbo.losses["model"].detach() - sum(weighted, torch.zeros_like(elbo.rate))
    return figures | {f"loss {name}": value for name, value in elbo.losses.items()}


def mixed(figures: dict[str, Tensor], names: list[str]) -> Tensor:
    """Returns a weighted sum of values, (B,), so that one gradient is a test of all of them."""
    return torch.stack([figures[name] / (1.0 + number) ** 0.5 for number, name in enumerate(names)]).sum(0)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@over(ROTATING)
def test_examples_are_separable_or_declared_coupled(case: Case, training: bool) -> None:
    model, (x, c) = case.build(torch.float64).train(training), case.inputs(B, torch.float64)
    batch = shared(model, x, c)
    own = [name for name in batch if not (case.couples_examples and name.startswith("loss"))]
    singles = [shared(model, x[i : i + 1], None if c is None else c[i : i + 1]) for i in range(B)]
    twice = shared(model, torch.cat([x, x]), None if c is None else torch.cat([c, c]))
    for name in own:
        torch.testing.assert_close(torch.cat([single[name] for single in singles]), batch[name], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(twice[name], torch.cat([batch[name], batch[name]]), rtol=1e-9, atol=1e-9)
    whole, doubled, *alone = (gradients(mixed(figures, own), model) for figures in (batch, twice, *singles))
    for wanted, double, *parts in zip(whole, doubled, *alone, strict=True):
        torch.testing.assert_close(sum(parts) / B, wanted, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(double, wanted, rtol=1e-8, atol=1e-9)


def test_the_separability_test_detects_a_batch_mean() -> None:
    case = Case("vae")
    model, (x, _) = case.build(torch.float64), case.inputs(B, torch.float64)
    whole = shared(model, x, None)["distortion"]
    single = shared(model, x[:1], None)["distortion"]
    assert not torch.allclose(whole.mean(), single.mean())
    with SharedNoise(B):
        z = torch.randn(2, B, 4)
        p = torch.bernoulli(torch.full((B, 3), 0.5)), torch.normal(torch.zeros(B, 3), torch.ones(B, 3))
        table = torch.multinomial(torch.rand(B, 1).expand(B, 7), 4, True)
    assert torch.equal(z[:, :1].expand_as(z), z) and z.std() > 0.1
    assert all(torch.equal(each[:1].expand_as(each), each) for each in (*p, table))
