"""The sliced-Wasserstein autoencoder."""

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives import PenalizedObjective, SlicedWassersteinDistance
from vaezoo.registry import Architecture, Count, LargeWeight, register


@register(
    "sliced-wae", changes=("encoder", "objective"), couples_examples=True, rate="no density", example={"projections": 8}
)
def sliced_wae(base: VAE, architecture: Architecture, *, weight: LargeWeight = 10.0, projections: Count = 50) -> VAE:
    r"""Minimizes distortion and a sliced Wasserstein distance of codes from the prior; deterministic encoder.

    $$D + \lambda\,\mathrm{SW}_2^2(q(z), p(z)), \qquad
        \mathrm{SW}_2^2(q, p) \approx \frac1L \sum_{l=1}^L \frac1B \sum_{i=1}^B
        \big(\mathrm{sort}_i(\theta_l \cdot z) - \mathrm{sort}_i(\theta_l \cdot z')\big)^2$$

    Hyperparameters:
        weight: $\lambda \ge 0$, weight of the distance.
        projections: $L \ge 1$, number of directions on the unit sphere, drawn anew at each step.

    The batch's codes z are compared with as many draws z' of the prior; in small batches the distance is positive even
    for equal distributions. With a context it is the distance of the pairs (z, c) and (z', c), where c has a greater
    spread, so that the codes of each context follow $p(z|c)$. There is no density of z and so no bound; the reported
    rate is $-\log p(z)$. Use it as `wae-mmd`, without a kernel and its bandwidth, at a cost of $B \log B$ for each
    direction.

    See also: `wae-mmd`, which uses a kernel. The sliced Wasserstein distance between images is another quantity.

    References: Kolouri et al. (2018), https://arxiv.org/abs/1804.01947
    """
    penalties = {"sliced_distance": (weight, SlicedWassersteinDistance(projections))}
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=PenalizedObjective(penalties))
