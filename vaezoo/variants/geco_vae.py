"""The VAE with a constraint on the distortion."""

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.errors import ConfigError
from vaezoo.objectives.constraints import ConstraintObjective
from vaezoo.registry import Architecture, register

SPEED = 0.0784  # of one element of x, whose distortion has about the same scale in all data


@register("geco-vae", changes="objective", example={"target": 18.0, "speed": 0.01})
def geco_vae(
    base: VAE,
    architecture: Architecture,
    *,
    target: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None,
    speed: Annotated[float, Meta(gt=0, le=1)] | None = None,
) -> VAE:
    r"""Minimizes the rate for a given distortion, with a multiplier that is adjusted to this constraint.

    $$R + \lambda\,(D - D_{target}), \qquad \lambda \leftarrow \lambda\,e^{\nu\,\overline{D - D_{target}}}$$

    Hyperparameters:
        target: $D_{target}$, nats per example; has no default, since it depends on data and likelihood: a number above
            the distortion that `vae` reaches on the data leads to a smaller rate, one below it to a larger one. The
            paper bounds a squared error, which is the distortion of Gaussian pixels of a fixed σ up to scale and a
            constant.
        speed: $\nu > 0$, change of $\log \lambda$ per step for each nat between the running mean of D and the target;
            by default 0.0784 divided by the number of elements of x, 1e-4 for MNIST.

    The rate is in closed form; the bound does not depend on $\lambda$. With a target that no decoder reaches, $\lambda$
    increases up to a limit, with a warning. Use it where the quality of reconstructions is given and the weight of the
    rate is not.

    See also: `annealed-vae`, which fixes the rate; `beta-vae`, which fixes the weight.

    References: Rezende & Viola (2018), https://arxiv.org/abs/1810.00597
    """
    if target is None:
        raise ConfigError(
            "Got no target; 'geco-vae' expected the distortion to hold, in nats per example: pass target=D. The "
            "distortion of a 'vae' that was trained on the same data with the same likelihood is a reference."
        )
    speed = SPEED / math.prod(architecture.shape) if speed is None else speed
    return base.replace(objective=ConstraintObjective(target, speed))
