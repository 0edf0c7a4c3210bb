"""FactorVAE: a game between the model and a critic of total correlation."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.networks import MLP
from vaezoo.networks.perceptron import Width
from vaezoo.objectives.adversarial import TotalCorrelationObjective
from vaezoo.registry import Architecture, register


@register(
    "factor-vae",
    changes="objective",
    year=2018,
    paper="Kim & Mnih",
    url="https://arxiv.org/abs/1802.05983",
    couples_examples=True,
)
def factor_vae(
    base: VAE,
    architecture: Architecture,
    *,
    gamma: Annotated[float, Meta(ge=0, le=1e6)] = 10.0,
    critic_hidden: Annotated[tuple[Width, ...], Meta(max_length=16)] = (1000,) * 5,
) -> VAE:
    r"""Minimises $D + R + \gamma\,\mathrm{KL}(q(z)\,\|\,\prod_j q(z_j))$: latents that are independent of each other.

    $$\mathrm{TC} \approx \mathbb{E}_{q(z)}\Big[\log \frac{C(z)}{1 - C(z)}\Big]$$

    Hyperparameters:
        gamma: $\gamma \ge 0$, the weight of the total correlation; the paper uses 10 to 40.
        critic_hidden: widths of the critic's hidden layers, five of 1000 in the paper and by default.

    When to use it: for disentangled factors with sharper images than `beta-vae` at the same independence. Negative
    draws are latents shuffled over the batch, so an example's loss depends on the others; the critic is not part of a
    saved model. The rate is in closed form, the total correlation is what the critic says of the drawn z. It is
    confused with `beta-tc-vae`, which estimates the same total correlation from the batch, without a critic.
    """
    width = math.prod(architecture.latent)
    return base.replace(objective=TotalCorrelationObjective(gamma, MLP((width,), (1,), 0, critic_hidden, "leaky-relu")))
