"""Adversarial objectives: optimal critics in closed form, and players by hand."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import norm
from support.cases import Case
from support.gaussian_models import one_latent
from support.runs import first_stage, reseed, small_recipe
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from vaezoo.core import VAE, seeded
from vaezoo.networks import MLP
from vaezoo.objectives import LatentAdversarialObjective, WeightedObjective, critic_accuracy, critic_logit, critic_loss
from vaezoo.recipe import read_recipe

P, Q = norm(0.0, 1.0), norm(0.8, 0.6)  # a prior and an aggregate posterior


def log_ratio(z: Tensor) -> Tensor:
    """Returns log p(z)/q(z), by scipy."""
    return torch.as_tensor(P.logpdf(z.numpy()) - Q.logpdf(z.numpy()))


@pytest.mark.full
@pytest.mark.parametrize("known_prior", [False, True])
def test_the_critic_learns_the_log_ratio_of_two_gaussians(known_prior: bool) -> None:
    """At the optimum the logit is log p(z)/q(z); with known_prior, the network learns -log q(z) alone."""
    torch.manual_seed(0)
    critic = MLP((1,), (1,), 0, [32], "tanh").double()
    objective = LatentAdversarialObjective(critic, 1.0, known_prior=known_prior)
    model = one_latent(WeightedObjective(), 512, loc=0.8, log_scale=math.log(0.6))
    optimizer = torch.optim.Adam(critic.parameters(), 2e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 400)
    for _ in range(400):
        inference = model.infer(torch.zeros(512, 1, dtype=torch.float64))
        alone = WeightedObjective().report(model, inference, None)
        loss = objective.add_critic(model, inference, None, None, alone)
        optimizer.zero_grad()
        loss.losses["critic"].mean().backward()
        optimizer.step()
        schedule.step()
    z = torch.linspace(-1.0, 2.0, 50, dtype=torch.float64).unsqueeze(1)
    exact = log_ratio(z).squeeze(1)
    with torch.no_grad():
        learned, network = objective.log_ratio(inference, z, None), critic(z).squeeze(1)
    assert exact.std() > 1.0 and (learned - exact).abs().mean() < 0.12
    if known_prior:
        assert (network + torch.as_tensor(Q.logpdf(z.numpy())).squeeze(1)).abs().mean() < 0.12


def test_the_minimum_of_the_critics_loss_is_log_two_minus_the_jensen_shannon_divergence() -> None:
    z, never = torch.linspace(-9, 9, 4001, dtype=torch.float64), torch.tensor(1e9)
    p, q = torch.as_tensor(P.pdf(z.numpy())), torch.as_tensor(Q.pdf(z.numpy()))

    def loss(shift: float) -> float:
        logit = log_ratio(z) + shift
        return float(torch.trapezoid(p * critic_loss(logit, -never) + q * critic_loss(never, logit), z))

    middle = 0.5 * (p + q)
    divergence = 0.5 * float(torch.trapezoid(torch.xlogy(p, p / middle) + torch.xlogy(q, q / middle), z))
    assert loss(0.0) == pytest.approx(math.log(2.0) - divergence, abs=1e-8)
    assert min(loss(0.2), loss(-0.2)) > loss(0.0) + 1e-4


def test_losses_and_accuracies_of_pairs_of_logits() -> None:
    positive, negative = torch.tensor([2.0, 2.0, -2.0, -2.0]), torch.tensor([-1.0, 1.0, -1.0, 1.0])
    assert critic_accuracy(positive, negative).tolist() == [1.0, 0.5, 0.5, 0.0]
    expected = 0.5 * (np.log1p(np.exp(-positive.numpy())) + np.log1p(np.exp(negative.numpy())))
    np.testing.assert_allclose(critic_loss(positive, negative).numpy(), expected, rtol=1e-6)
    assert float(critic_loss(torch.tensor(-1e4), torch.tensor(1e4))) == 1e4  # no logarithm of a probability that is 0
    assert critic_logit(nn.Linear(3, 1).bfloat16(), torch.zeros(2, 3).bfloat16()).dtype == torch.float32


def three_players(model: VAE, x: Tensor) -> dict[str, Tensor]:
    """Returns the losses of `vae-gan` with γ = 0.7, as Larsen et al. write them."""
    critic = model.objective.critic
    loc, log_scale = model.encoder.network(x).unbind(1)
    z = loc + log_scale.exp() * torch.randn(1, *loc.shape)[0]
    noise = torch.randn(*loc.shape)
    rate = -0.5 * (1 + 2 * log_scale - loc.square() - (2 * log_scale).exp()).sum(1)

    def reconstructed(codes: Tensor) -> Tensor:
        return model.decoder.network(codes).squeeze(1)

    def layer(images: Tensor) -> Tensor:
        hidden = critic.network(images).flatten(1)
        centered = hidden - hidden.mean(1, keepdim=True)
        return nn.functional.leaky_relu(centered / (centered.square().mean(1, keepdim=True) + 1e-5).sqrt(), 0.2)

    def classified(images: Tensor, real: bool) -> Tensor:
        logits = critic.head(layer(images))
        return cross_entropy(logits, torch.full_like(logits, float(real)))

    def distance(codes: Tensor) -> Tensor:
        return 0.5 * ((layer(reconstructed(codes)) - layer(x).detach()) ** 2).sum(1).mean()

    images = [reconstructed(codes) for codes in (z.detach(), noise)]
    return {
        "encoder": rate.mean() + distance(z),
        "decoder": 0.7 * distance(z.detach()) - sum(classified(each, False) for each in images),
        "critic": classified(x, True) + sum(classified(each.detach(), False) for each in images),
    }


def two_players(model: VAE, x: Tensor) -> dict[str, Tensor]:
    """Returns the losses of `aae` with λ = 3."""
    critic, z = model.objective.critic, model.encoder.network(x).squeeze(1)
    drawn = torch.randn(*z.shape)
    logits = model.decoder.network(z).squeeze(1)
    distortion = cross_entropy(logits, x, reduction="none").flatten(1).sum(1).mean()
    fooled, own, prior = (critic(each) for each in (z, z.detach(), drawn))
    ones = torch.ones_like(own)
    return {
        "model": distortion + 3.0 * cross_entropy(fooled, ones),
        "critic": 0.5 * (cross_entropy(prior, ones) + cross_entropy(own, 0 * ones)),
    }


@pytest.mark.parametrize(
    ("name", "options", "losses"),
    [
        ("vae-gan", {"gamma": 0.7, "critic_channels": 2}, three_players),
        ("aae", {"weight": 3.0, "critic_hidden": [6]}, two_players),
    ],
)
def test_players_learn_what_they_learn_by_hand(
    name: str, options: dict[str, object], losses: Callable[[VAE, Tensor], dict[str, Tensor]]
) -> None:
    """Three steps of the trainer equal three steps of optimizers on losses with `detach`."""
    tables = small_recipe(name, steps=3, learning_rates={"critic": 1e-2}).as_dict() | {"options": options}
    run, twin = first_stage(read_recipe(tables)), first_stage(read_recipe(tables))
    model = twin.model
    parts = {"decoder": [model.decoder], "critic": [model.objective.critic], "encoder": [model.encoder]}
    if name == "aae":
        parts = {"model": [model.encoder, model.decoder], "critic": parts["critic"]}
    before = {key: value.clone() for key, value in run.model.named_parameters()}
    own = {player: [p for module in modules for p in module.parameters()] for player, modules in parts.items()}
    rates = {player: twin.stage.learning_rates.get(player, twin.stage.learning_rate) for player in own}
    optimizers = {player: torch.optim.Adam(parameters, rates[player]) for player, parameters in own.items()}
    for number in range(3):
        run.advance()
        reseed(twin.feed.seed, number, 0)
        found = losses(model, twin.feed.batch(number)[0])
        assert found.keys() == own.keys()
        gradients = {player: torch.autograd.grad(found[player], own[player], retain_graph=True) for player in own}
        for player, optimizer in optimizers.items():
            for parameter, gradient in zip(own[player], gradients[player], strict=True):
                parameter.grad = gradient
            optimizer.step()
    for key, value in run.model.named_parameters():
        assert not torch.equal(value, before[key]), key
        torch.testing.assert_close(value, dict(model.named_parameters())[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options"),
    [("aae", {}), ("aae", {"posterior": "gaussian"}), ("factor-vae", {}), ("vae-gan", {}), ("wae-gan", {})],
)
def test_the_bound_does_not_depend_on_the_critic(name: str, options: dict[str, object]) -> None:
    """Without the critic there is only the loss of the model."""
    model, (x, _) = Case(name).build(torch.float64, **options), Case(name).inputs(4, torch.float64)
    twin = model.replace(objective=WeightedObjective())
    with seeded(1):
        with_critic = model(x)
    model.objective.critic = None
    with seeded(1):
        alone = model(x)
    with seeded(1):
        plain = twin(x)
    for part, other in itertools.product(("distortion", "rate", "bound"), (with_critic, plain)):
        assert torch.equal(getattr(alone, part), getattr(other, part)), part
    assert set(alone.losses) == set(model.players()) == {"model"} and not alone.terms
    rate = alone.rate if isinstance(model.objective, WeightedObjective) else 0.0
    torch.testing.assert_close(alone.losses["model"], alone.distortion + rate)


def test_weights_of_zero_remove_the_term() -> None:
    for name, options in (("aae", {"weight": 0.0}), ("vae-gan", {"gamma": 0.0})):
        model, (x, _) = Case(name).build(**options), Case(name).inputs(4)
        with torch.no_grad():
            model.objective.critic.head.bias.fill_(torch.inf if name == "aae" else 0.0)
        elbo = model(x)
        assert torch.equal(elbo.losses["model"], elbo.distortion) if name == "aae" else elbo.losses["decoder"].max() < 0
