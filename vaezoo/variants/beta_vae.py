"""The β-VAE."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives import WeightedObjective
from vaezoo.registry import Architecture, register


@register(
    "beta-vae", changes="objective", year=2017, paper="Higgins et al.", url="https://openreview.net/forum?id=Sy2fzU9gl"
)
def beta_vae(base: VAE, architecture: Architecture, *, beta: Annotated[float, Meta(ge=0, le=1e6)] = 4.0) -> VAE:
    r"""Minimises $D + \beta R$: the rate is weighted against the distortion.

    Hyperparameters:
        beta: $\beta \ge 0$. Above 1: fewer nats in the latents, smoother and more disentangled codes, blurrier images.
            Below 1: sharper reconstructions, worse samples. 1 is the VAE.

    When to use it: to choose a point on the rate-distortion curve, or for disentangled factors. The reported bound is
    that of the unweighted ELBO; the rate is in closed form. $\beta$ multiplies sums over pixels and latents: papers
    that average over either use another scale ($\beta_{norm} = \beta\, \dim z / \dim x$). It is confused with
    `annealed-vae`, which aims at a capacity instead.
    """
    return base.replace(objective=WeightedObjective(rate=beta))
