r"""Games: objectives with a critic, a network that learns to tell two kinds of draws apart while the model blurs them.

A critic's *logit* $C$ is up for the one kind and down for the other. Of the loss $\tfrac12(\log(1 + e^{-C}) +
\log(1 + e^{C'}))$ the optimum is the log of the two densities' ratio, and there the loss is $\log 2$ minus their
Jensen-Shannon divergence (Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661): $\log 2$ where they are equal.

Every player has its own parameters, and takes the gradient of its own loss by them alone. Bound, rate and distortion
never need a critic, and no critic is saved: a model without one plays alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, leaky_relu, softplus

from vaezoo.core import ELBO, Inference, Model
from vaezoo.core.precision import full_precision
from vaezoo.objectives.penalties.discrepancy import prior_sample
from vaezoo.objectives.weighted import PenalizedObjective, WeightedObjective

__all__ = ["FeatureCritic", "Game", "PriorGame", "accuracy", "logit", "players_of", "separation"]

SLOPE = 0.2  # of a critic's activation below 0, as is usual for critics of images (Radford et al., 2016)


def logit(critic: nn.Module, x: Tensor, c: Tensor | None = None) -> Tensor:
    """Returns what a critic says of each of x (B, …), (B,), in float32 at least: a log ratio of densities."""
    said = critic(x) if c is None else critic(x, c)
    return full_precision(said).squeeze(-1)


def separation(up: Tensor, down: Tensor) -> Tensor:
    """Returns what a critic minimises, (B,), nats, of its logits of both kinds of draws; log 2 where it cannot tell."""
    return 0.5 * (softplus(-up) + softplus(down))


def accuracy(up: Tensor, down: Tensor) -> Tensor:
    """Returns the share of each pair that a critic takes for what it is, (B,): 0, ½ or 1; by guessing ½ on average."""
    return 0.5 * ((up > 0).to(up.dtype) + (down < 0).to(down.dtype)).detach()


def players_of(model: Model, owners: Mapping[str, nn.Module | None], rest: str) -> dict[str, list[nn.Parameter]]:
    """Returns player -> its trainable parameters: those of its module, and for the player `rest` all others.

    A player whose module is None (a critic that was not saved), or frozen, has no part in the game.
    """
    modules = {name: module for name, module in owners.items() if module is not None}
    own = {name: [p for p in module.parameters() if p.requires_grad] for name, module in modules.items()}
    own = {name: parameters for name, parameters in own.items() if parameters}
    taken = {id(parameter) for parameters in own.values() for parameter in parameters}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    return {rest: others} | own


class Game(PenalizedObjective):
    """An objective with a critic; without it, as in a loaded model, what is left of the objective.

    A subclass sets `critic` and says in `play` what the players minimise.
    """

    #: attributes that hold critics: they are not saved, and None in a loaded model
    critics = ("critic",)
    critic: nn.Module | None

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns the model's parameters and the critic's."""
        return players_of(model, {"critic": self.critic}, rest="model")

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO, with a loss for each player and the terms of the game."""
        inference = self.infer(model, x, c)
        elbo = self.report(model, inference, step)
        return elbo if self.critic is None else self.play(model, inference, c, step, elbo)

    def play(self, model: Model, inference: Inference, c: Tensor | None, step: Tensor | None, elbo: ELBO) -> ELBO:
        """Returns the ELBO of a model with its critic, from that of the model alone."""
        raise NotImplementedError


class PriorGame(Game):
    r"""Minimises $D + \lambda \log(1 + e^{-C(z)})$ against a critic of draws of the prior and codes.

    The model's codes $z \sim q(z|x)$ are to be taken for draws of p(z); the loss is the one that still pulls where the
    critic is sure (Goodfellow et al., 2014, section 3). A prior that is learnt has its draws taken for codes in turn.

    Args:
        critic: maps z (B, *latent) and c (B, context) to (B, 1).
        weight: $\lambda \ge 0$; at 0 the critic learns, and nobody heeds it.
        known_prior: the critic's logit is log p(z) plus the network's output, which then has only -log q(z) to learn.
    """

    def __init__(self, critic: nn.Module, weight: float, *, known_prior: bool = False) -> None:
        super().__init__()
        self.critic: nn.Module | None = critic
        self.weight, self.known_prior = weight, known_prior

    def play(self, model: Model, inference: Inference, c: Tensor | None, step: Tensor | None, elbo: ELBO) -> ELBO:
        """Returns the ELBO with the terms `adversarial`, log(1 + exp(-C(z))), and `critic_accuracy`."""
        drawn, z = prior_sample(inference), inference.z[0]
        up, down = self.log_ratio(inference, drawn, c), self.log_ratio(inference, z, c)
        adversarial = softplus(-down)
        goal = adversarial + softplus(up) if drawn.requires_grad else adversarial
        loss = elbo.losses["model"] + self.weight * goal if self.weight else elbo.losses["model"]
        return replace(
            elbo,
            losses={"model": loss, "critic": separation(up, down)},
            terms={**elbo.terms, "adversarial": adversarial.detach(), "critic_accuracy": accuracy(up, down)},
        )

    def log_ratio(self, inference: Inference, z: Tensor, c: Tensor | None) -> Tensor:
        """Returns the critic's logit of each of z (B, *latent), (B,): what it holds log p(z)/q(z) to be."""
        assert self.critic is not None
        said = logit(self.critic, z, c)
        return said + inference.prior.log_prob(z) if self.known_prior else said


class FeatureCritic(nn.Module):
    """A critic of data whose last hidden layer is also used as a measure of similarity.

    That layer is normalised over the features of each example: otherwise their scale, and with it what a distance says,
    would drift as the critic learns. (Larsen et al. normalise over the batch, which couples its examples.)

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, *grid).
        width: elements of that grid.
    """

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(width, 1)

    def features(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns the last hidden layer of x (B, *shape), (B, width)."""
        hidden: Tensor = self.network(x) if c is None else self.network(x, c)
        hidden = full_precision(hidden).flatten(1)
        return leaky_relu(layer_norm(hidden, hidden.shape[1:]), SLOPE)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns the logits of x (B, *shape), (B, 1)."""
        return self.judge(self.features(x, c))

    def judge(self, features: Tensor) -> Tensor:
        """Returns the logits of features (B, width), (B, 1)."""
        out: Tensor = self.head(features.to(self.head.weight.dtype))
        return out


class TotalCorrelationObjective(Game, WeightedObjective):
    """Minimises D + R + γ·TC, with the density ratio of a critic for the total correlation TC."""

    def __init__(self, gamma: float, critic: nn.Module) -> None:
        super().__init__()
        self.gamma = gamma
        self.critic: nn.Module | None = critic

    def play(self, model: Model, inference: Inference, c: Tensor | None, step: Tensor | None, elbo: ELBO) -> ELBO:
        """Returns the ELBO with the terms `total_correlation` and `critic_accuracy`."""
        assert self.critic is not None
        z = inference.z[0].flatten(1)
        own = z.detach()
        shuffled = own.gather(0, torch.rand_like(own).argsort(0))
        # The critic tells joint draws (logit up) from draws whose dimensions were shuffled over the batch (logit down).
        correlation, down = logit(self.critic, z), logit(self.critic, shuffled)
        loss = elbo.losses["model"] + self.gamma * correlation if self.gamma else elbo.losses["model"]
        return replace(
            elbo,
            losses={"model": loss, "critic": separation(correlation, down)},
            terms={"total_correlation": correlation.detach(), "critic_accuracy": accuracy(correlation, down)},
        )


class SimilarityGame(Game, WeightedObjective):
    """Three players; alone, without its critic, the model minimises D + R."""

    def __init__(self, gamma: float, critic: FeatureCritic) -> None:
        super().__init__()
        self.gamma = gamma
        self.critic: nn.Module | None = critic

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns the parameters of decoder and critic, and all others (those of a prior too) for the encoder."""
        if self.critic is None:
            return super().players(model)
        return players_of(model, {"decoder": model.decoder, "critic": self.critic}, rest="encoder")

    def play(self, model: Model, inference: Inference, c: Tensor | None, step: Tensor | None, elbo: ELBO) -> ELBO:
        """Returns the ELBO with the terms `similarity`, half a squared distance of features, and `critic_accuracy`."""
        critic = cast(FeatureCritic, self.critic)
        images = (inference.x, inference.likelihood.mean[0], model.decoder(prior_sample(inference).detach(), c).mean)
        layers = [critic.features(each, c) for each in images]
        real, remade, drawn = (full_precision(critic.judge(layer)).squeeze(-1) for layer in layers)
        similarity = 0.5 * (layers[1] - layers[0]).square().sum(1)
        caught = softplus(remade) + softplus(drawn)
        return replace(
            elbo,
            losses={
                "encoder": similarity + self.penalty(elbo.rate, step),
                "decoder": self.gamma * similarity - caught if self.gamma else -caught,
                "critic": softplus(-real) + caught,
            },
            terms={"similarity": similarity.detach(), "critic_accuracy": accuracy(real, drawn)},
        )
