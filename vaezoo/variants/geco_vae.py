"""The VAE with a constraint on the distortion."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives.constraints import ConstraintObjective
from vaezoo.registry import Architecture, register


@register("geco-vae", changes="objective", example={"target": 18.0, "speed": 0.01})
def geco_vae(
    base: VAE,
    architecture: Architecture,
    *,
    target: Annotated[float, Meta(ge=-1e9, le=1e9)] = 80.0,
    speed: Annotated[float, Meta(gt=0, le=1)] = 1e-3,
) -> VAE:
    r"""Minimizes the rate for a given distortion, with a multiplier that is adjusted to this constraint.

    $$R + \lambda\,(D - D_{target}), \qquad \lambda \leftarrow \lambda\,e^{\nu\,\overline{D - D_{target}}}$$

    Hyperparameters:
        target: $D_{target}$, nats per example. The paper bounds a squared error, which is the distortion of Gaussian
            pixels of a fixed σ up to scale and a constant.
        speed: $\nu > 0$, change of $\log \lambda$ per step for each nat between the running mean of D and the target.

    The rate is in closed form; the bound does not depend on $\lambda$. With a target that no decoder reaches, $\lambda$
    increases up to a limit. Use it where the quality of reconstructions is given and the weight of the rate is not.

    See also: `annealed-vae`, which fixes the rate; `beta-vae`, which fixes the weight.

    References: Rezende & Viola (2018), https://arxiv.org/abs/1810.00597
    """
    return base.replace(objective=ConstraintObjective(target, speed))
