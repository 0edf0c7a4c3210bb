"""The VAE under a constraint: the smallest rate at a given distortion."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives.constraints import ConstraintObjective
from vaezoo.registry import Architecture, register


@register("geco-vae", changes="objective", year=2018, paper="Rezende & Viola", url="https://arxiv.org/abs/1810.00597")
def geco_vae(
    base: VAE,
    architecture: Architecture,
    *,
    target: Annotated[float, Meta(ge=-1e9, le=1e9)] = 80.0,
    speed: Annotated[float, Meta(gt=0, le=1)] = 1e-3,
) -> VAE:
    r"""Minimises $R$ subject to $D \le D_{target}$, by a multiplier that follows the constraint.

    $$R + \lambda\,(D - D_{target}), \qquad \lambda \leftarrow \lambda\,e^{\nu\,\overline{D - D_{target}}}$$

    Hyperparameters:
        target: $D_{target}$, in nats per example. The paper bounds a squared error, which is the distortion of Gaussian
            pixels of a fixed σ, but for scale and a constant.
        speed: $\nu > 0$, how fast $\log \lambda$ moves, for each nat that the running mean of D is from the target.

    The rate is in closed form; the bound does not see $\lambda$. When to use it: where the quality of reconstructions
    is given and the price of the rate is not. It is confused with `annealed-vae`, which fixes the rate, and with
    `beta-vae`, which fixes the price. With a target that no decoder reaches $\lambda$ grows up to a limit.
    """
    return base.replace(objective=ConstraintObjective(target, speed))
