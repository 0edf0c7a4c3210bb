"""DIP-VAE-II: an aggregate posterior with the prior's covariance."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives import WeightedObjective, from_identity
from vaezoo.objectives.penalties.aggregate import of_draws
from vaezoo.registry import Architecture, register


@register(
    "dip-vae-ii",
    changes="objective",
    year=2018,
    paper="Kumar et al.",
    url="https://arxiv.org/abs/1711.00848",
    couples_examples=True,
)
def dip_vae_ii(
    base: VAE,
    architecture: Architecture,
    *,
    lambda_od: Annotated[float, Meta(ge=0, le=1e6)] = 10.0,
    lambda_d: Annotated[float, Meta(ge=0, le=1e6)] = 10.0,
) -> VAE:
    r"""Minimises $D + R + \lambda_{od} \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2$, $C$ of the draws.

    $$C = \mathrm{Cov}_{q(z)}[z] = \mathrm{Cov}_{p(x)}[\mu(x)] + \mathbb{E}_{p(x)}[\mathrm{diag}\,\sigma^2(x)]$$

    Hyperparameters:
        lambda_od: $\lambda_{od} \ge 0$, what it costs that two latents go together.
        lambda_d: $\lambda_d \ge 0$, what it costs that a latent has another variance than 1.

    The rate is in closed form. $C$ is that of the batch, divided by B, in closed form given the posteriors: use batches
    of 100 or more. When to use it: for an aggregate posterior with the covariance of the prior, with latents that may
    stay idle. It is confused with `dip-vae-i`, which looks at the means alone.
    """
    return base.replace(objective=WeightedObjective(penalties=from_identity(of_draws, lambda_od, lambda_d)))
