"""FactorVAE's critic, the learned prior of the conditional VAE, and options."""

import math
from typing import cast

import pytest
import torch
from support.cases import Case
from torch import Tensor, nn

from vaezoo.core import VAE
from vaezoo.errors import ConfigError
from vaezoo.networks import MLP
from vaezoo.objectives import TotalCorrelationObjective, critic_logit
from vaezoo.priors import ConditionalNormalPrior
from vaezoo.registry import create


def softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def logit(critic: MLP, row: list[float]) -> float:
    """Returns the logit of a critic with one hidden layer, in plain Python."""
    hidden_layer, head, hidden = cast(nn.Linear, critic.layers[0]), critic.head, []
    for weights, bias in zip(hidden_layer.weight.tolist(), hidden_layer.bias.tolist(), strict=True):
        value = bias + sum(w * v for w, v in zip(weights, row, strict=True))
        hidden.append(value if value > 0 else 0.01 * value)
    return head.bias.tolist()[0] + sum(w * v for w, v in zip(head.weight.tolist()[0], hidden, strict=True))


def game() -> tuple[VAE, TotalCorrelationObjective]:
    model = Case("factor-vae").build(torch.float64, gamma=6.0)
    assert isinstance(model.objective, TotalCorrelationObjective)
    return model, model.objective


@pytest.mark.parametrize("count", [4, 9])
def test_the_critics_loss_equals_a_double_loop(count: int) -> None:
    model, objective = game()
    x, _ = Case("factor-vae").inputs(count, torch.float64)
    torch.manual_seed(11)
    with torch.no_grad():
        elbo = model(x)
    torch.manual_seed(11)  # the same z, then the same shuffle
    z = model.infer(x).z[0].flatten(1)
    order = torch.rand_like(z)
    critic, rows = cast(MLP, objective.critic), z.tolist()
    for i in range(count):
        shuffled = []
        for j in range(z.shape[1]):
            column = sorted(range(count), key=lambda k, j=j: float(order[k, j]))
            shuffled.append(rows[column[i]][j])
        wanted = 0.5 * (softplus(-logit(critic, rows[i])) + softplus(logit(critic, shuffled)))
        assert float(elbo.losses["critic"][i]) == pytest.approx(wanted)
        assert float(elbo.terms["total_correlation"][i]) == pytest.approx(logit(critic, rows[i]))
    torch.testing.assert_close(
        elbo.losses["model"], elbo.distortion + elbo.rate + 6.0 * elbo.terms["total_correlation"]
    )


def test_the_critic_learns_the_total_correlation_of_a_gaussian() -> None:
    """At its optimum the critic's logit is log q(z) / Π q(z_j), whose mean is -½ log(1 - ρ²)."""
    correlation, width = 0.8, 2
    objective = TotalCorrelationObjective(1.0, MLP((width,), (1,), 0, [32], "tanh"))
    assert objective.critic is not None
    optimizer = torch.optim.Adam(objective.critic.parameters(), 1e-2)
    for _ in range(300):
        first, noise = torch.randn(2, 512)
        z = torch.stack([first, correlation * first + (1 - correlation**2) ** 0.5 * noise], 1)
        shuffled = z.gather(0, torch.rand_like(z).argsort(0))
        logits = critic_logit(objective.critic, z), critic_logit(objective.critic, shuffled)
        loss = 0.5 * (nn.functional.softplus(-logits[0]) + nn.functional.softplus(logits[1])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    exact = -0.5 * math.log(1 - correlation**2)
    assert float(critic_logit(objective.critic, z).mean().detach()) == pytest.approx(exact, abs=0.15)


def test_without_its_critic_or_without_weight_the_term_is_absent() -> None:
    model, objective = game()
    x, _ = Case("factor-vae").inputs(4, torch.float64)
    critic, objective.critic = cast(MLP, objective.critic), None
    elbo = model(x)
    assert set(elbo.losses) == {"model"} == set(model.players()) and not elbo.terms
    torch.testing.assert_close(elbo.losses["model"], -elbo.bound)
    model.objective = weightless = TotalCorrelationObjective(0.0, critic)
    with torch.no_grad():
        critic.head.bias.fill_(torch.inf)
    assert weightless.critic is critic and torch.isfinite(model(x).losses["model"]).all()


def test_the_players_gradients_do_not_mix() -> None:
    model, objective = game()
    critic, seen = objective.critic, list[Tensor]()
    assert critic is not None
    hook = critic.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    elbo, players = model(Case("factor-vae").inputs(6, torch.float64)[0]), model.players()
    hook.remove()
    assert set(map(id, players["critic"])) == set(map(id, critic.parameters()))
    found = torch.autograd.grad(elbo.losses["critic"].mean(), players["critic"])
    own, shuffled = (each.detach() for each in seen)
    wanted = 0.5 * (nn.functional.softplus(-critic(own)) + nn.functional.softplus(critic(shuffled))).mean()
    for gradient, exact in zip(found, torch.autograd.grad(wanted, players["critic"]), strict=True):
        torch.testing.assert_close(gradient, exact)


def test_the_prior_of_a_class_is_learned_for_that_class() -> None:
    model = create("cvae", shape=(1, 8, 8), latent=2, context=3)
    assert isinstance(model.prior, ConditionalNormalPrior)
    prior = model.prior(torch.eye(3))
    assert prior.batch_shape == (3,) and prior.event_shape == (2,)
    x, c = Case("cvae", context=3).inputs(30)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = model.prior(torch.eye(3)).mean
    for _ in range(30):
        optimizer.zero_grad()
        model(x, c).losses["model"].mean().backward()
        optimizer.step()
    assert not torch.allclose(before, model.prior(torch.eye(3)).mean)
    deep = create("cvae", shape=(1, 8, 8), context=3, prior_hidden=[5, 4])
    assert len([name for name in deep.state_dict() if name.startswith("prior.")]) == 6


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("beta-vae", {"beta": -1.0}),
        ("beta-vae", {"beta": float("nan")}),
        ("beta-vae", {"beta": "4"}),
        ("beta-vae", {"beta": True}),
        ("beta-vae", {"beta": 10**400}),
        ("factor-vae", {"critic_hidden": [0]}),
        ("factor-vae", {"critic_hidden": [8] * 100}),
        ("iwae", {"samples": 2.5}),
        ("iwae", {"samples": 10**9}),
        ("hamiltonian-vae", {"step_size": 0.5}),
        ("hamiltonian-vae", {"leapfrogs": math.inf}),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"variant {name}: option {next(iter(options))}: .*got "):
        create(name, shape=(1, 8, 8), **options)
