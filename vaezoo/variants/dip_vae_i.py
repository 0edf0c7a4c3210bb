"""DIP-VAE-I: posterior means with the prior's covariance."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives import WeightedObjective, from_identity
from vaezoo.objectives.penalties.aggregate import of_means
from vaezoo.registry import Architecture, register


@register(
    "dip-vae-i",
    changes="objective",
    year=2018,
    paper="Kumar et al.",
    url="https://arxiv.org/abs/1711.00848",
    couples_examples=True,
)
def dip_vae_i(
    base: VAE,
    architecture: Architecture,
    *,
    lambda_od: Annotated[float, Meta(ge=0, le=1e6)] = 10.0,
    lambda_d: Annotated[float, Meta(ge=0, le=1e6)] = 100.0,
) -> VAE:
    r"""Minimises $D + R + \lambda_{od} \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2$, $C$ of the means.

    $$C = \mathrm{Cov}_{p(x)}[\mu(x)]$$

    Hyperparameters:
        lambda_od: $\lambda_{od} \ge 0$, what it costs that two latents' means go together.
        lambda_d: $\lambda_d \ge 0$, what it costs that a latent's means have another variance than 1.

    The rate is in closed form. $C$ is that of the batch, divided by B: use batches of 100 or more. When to use it: for
    means that are uncorrelated, where codes are read off the means. Unlike the total correlation of `beta-tc-vae` it
    sees correlations alone. It is confused with `dip-vae-ii`, which looks at the draws; here the means alone must reach
    variance 1, which forbids idle latents.
    """
    return base.replace(objective=WeightedObjective(penalties=from_identity(of_means, lambda_od, lambda_d)))
