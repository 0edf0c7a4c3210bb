"""The VAE with a learned similarity: an encoder, a decoder and a critic of images."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.networks.perceptron import Width
from vaezoo.objectives import FeatureCritic
from vaezoo.objectives.adversarial import SimilarityGame
from vaezoo.registry import Architecture, register


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
