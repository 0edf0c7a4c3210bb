"""The regularised autoencoder with a gradient penalty."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives import half_square
from vaezoo.objectives.penalties.regularizers import SmoothObjective, slope
from vaezoo.registry import Architecture, register


@register(
    "rae-gp",
    changes=("encoder", "objective"),
    year=2020,
    paper="Ghosh et al.",
    url="https://arxiv.org/abs/1903.12436",
    rate="no density",
)
def rae_gp(
    base: VAE,
    architecture: Architecture,
    *,
    beta: Annotated[float, Meta(ge=0, le=1e6)] = 1e-2,
    weight: Annotated[float, Meta(ge=0, le=1e6)] = 1e-2,
) -> VAE:
    r"""Minimises $D + \beta\,\tfrac12 \|z\|^2 + \lambda\,\|\nabla_z \mu(z)\|^2$, with an encoder without noise.

    $$z = f(x), \qquad \mu(z) = \mathbb{E}[x|z]$$

    Hyperparameters:
        beta: $\beta \ge 0$, what codes far from 0 cost.
        weight: $\lambda \ge 0$, what a steep decoder costs. Both are searched for each data set in the paper, where D
            is the squared error: `likelihood = {name = "gaussian", scale = 0.7071}`, up to a constant.

    $\|\nabla_z \mu\|^2$ is summed over latents and pixels, from one random combination of the pixels at each step,
    whose mean it is; code in wide use takes the gradient of the pixels' sum, in which they cancel. There is no
    density of z and so no bound: what is reported as the rate is $-\log p(z)$. When to use it: for sharp images and a
    smooth latent space, with a density fitted to its codes afterwards. It is confused with the gradient penalty of
    critics, which is on their slope by x, and with `rae-l2`, which is cheaper.
    """
    penalties = {"half_square": (beta, half_square), "slope": (weight, slope)}
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=SmoothObjective(penalties))
