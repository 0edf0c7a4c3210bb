"""The sliced-Wasserstein autoencoder."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives import PenalizedObjective, SlicedDistance
from vaezoo.registry import Architecture, register


@register(
    "sliced-wae",
    changes=("encoder", "objective"),
    year=2018,
    paper="Kolouri et al.",
    url="https://arxiv.org/abs/1804.01947",
    couples_examples=True,
    rate="no density",
)
def sliced_wae(
    base: VAE,
    architecture: Architecture,
    *,
    weight: Annotated[float, Meta(ge=0, le=1e9)] = 10.0,
    projections: Annotated[int, Meta(ge=1, le=10_000)] = 50,
) -> VAE:
    r"""Minimises $D + \lambda\,\mathrm{SW}_2^2(q(z), p(z))$, with an encoder without noise.

    $$\mathrm{SW}_2^2(q, p) \approx \frac1L \sum_{l=1}^L \frac1B \sum_{i=1}^B
        \big(\mathrm{sort}_i(\theta_l \cdot z) - \mathrm{sort}_i(\theta_l \cdot z')\big)^2$$

    Hyperparameters:
        weight: $\lambda \ge 0$, of the distance.
        projections: $L \ge 1$, directions on the unit sphere, drawn anew at each step.

    The batch's codes z are compared with as many draws z' of the prior; of small batches the distance is above 0 also
    where both have one distribution. There is no density of z and so no bound: what is reported as the rate is
    $-\log p(z)$. When to use it: as `wae-mmd`, without a kernel and its bandwidth to choose, at a cost of
    $B \log B$ a direction. It is confused with the sliced Wasserstein distance between images; this is of latents.
    """
    penalties = {"sliced_distance": (weight, SlicedDistance(projections))}
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=PenalizedObjective(penalties))
