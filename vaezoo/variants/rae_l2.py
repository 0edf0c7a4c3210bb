"""The regularised autoencoder with weight decay on its decoder."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives import PenalizedObjective, half_square
from vaezoo.objectives.penalties.regularizers import decoder_weights
from vaezoo.registry import Architecture, register


@register(
    "rae-l2",
    changes=("encoder", "objective"),
    year=2020,
    paper="Ghosh et al.",
    url="https://arxiv.org/abs/1903.12436",
    rate="no density",
)
def rae_l2(
    base: VAE,
    architecture: Architecture,
    *,
    beta: Annotated[float, Meta(ge=0, le=1e6)] = 1e-2,
    weight: Annotated[float, Meta(ge=0, le=1e6)] = 1e-4,
) -> VAE:
    r"""Minimises $D + \beta\,\tfrac12 \|z\|^2 + \lambda\,\|\theta\|^2$, with an encoder without noise.

    $$z = f(x), \qquad \theta \text{ the decoder's parameters}$$

    Hyperparameters:
        beta: $\beta \ge 0$, what codes far from 0 cost.
        weight: $\lambda \ge 0$, what large weights of the decoder cost. Both are searched for each data set in the
            paper, where D is the squared error: `likelihood = {name = "gaussian", scale = 0.7071}`, up to a constant.

    The penalty is a part of the loss, as in the paper; as weight decay of Adam it would be another. There is no density
    of z and so no bound: what is reported as the rate is $-\log p(z)$. When to use it: for sharp images, with a density
    fitted to its codes afterwards: `sample` draws from N(0, 1), which the codes were not asked to follow. It is
    confused with `rae-gp`, which smooths the decoder by its slope, and with a `beta-vae` of small $\beta$.
    """
    penalties = {"half_square": (beta, half_square), "decoder_weights": (weight, decoder_weights)}
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=PenalizedObjective(penalties))
