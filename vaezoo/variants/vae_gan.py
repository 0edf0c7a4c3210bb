"""The VAE with a learned similarity: an encoder, a decoder and a critic of images."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, cast

from msgspec import Meta
from torch import Tensor, nn
from torch.nn.functional import softplus

from vaezoo.discrepancies import prior_sample
from vaezoo.distributions import full_precision
from vaezoo.elbo import ELBO, Inference, Model, WeightedObjective
from vaezoo.games import FeatureCritic, Game, accuracy, players_of
from vaezoo.model import VAE
from vaezoo.networks.mlp import Width
from vaezoo.registry import Architecture, register


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
        images = (
            inference.x,
            inference.likelihood.mean[0],
            model.decoder(prior_sample(inference).detach(), c).mean,
        )
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


@register(
    "vae-gan",
    changes="objective",
    year=2016,
    paper="Larsen et al.",
    url="https://arxiv.org/abs/1512.09300",
    defaults={"likelihood": {"name": "gaussian", "scale": 0.3, "scale_kind": "optimal"}},
)
def vae_gan(
    base: VAE,
    architecture: Architecture,
    *,
    gamma: Annotated[float, Meta(ge=0, le=1e6)] = 1.0,
    critic_channels: Width = 32,
) -> VAE:
    r"""Minimises $R + D_l$ with the encoder, $\gamma D_l - L$ with the decoder, and $L$ with a critic $C$ of images.

    $$D_l = \tfrac12 \|C_l(x) - C_l(\tilde x)\|^2, \qquad
        L = -\log \sigma(C(x)) - \log(1 - \sigma(C(\tilde x))) - \log(1 - \sigma(C(x_p)))$$

    Hyperparameters:
        gamma: $\gamma \ge 0$, what the similarity weighs for the decoder.
        critic_channels: width of the critic's last hidden layer, $C_l$, at each position of the backbone's grid.

    Here $\tilde x$ is the mean of p(x|z) for z from q(z|x), and $x_p$ that for z from the prior: images are compared in
    a layer of the critic, a network like the encoder's, and no pixel is. What is reported is $D = -\log p(x|z)$ as ever
    and a bound that nobody maximises; the rate is in closed form. By default the likelihood's scale follows the error.
    When to use it: for sharp images whose details may be off. Give the critic a lower learning rate if it wins. It is
    confused with `aae`, whose critic judges codes.
    """
    network = architecture.network()
    grid = network.grid(architecture.shape, critic_channels)
    critic = FeatureCritic(network.down(architecture.shape, (1, *grid), architecture.context), math.prod(grid))
    return base.replace(objective=SimilarityGame(gamma, critic))
