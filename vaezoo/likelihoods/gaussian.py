"""Gaussian pixels or features."""

from torch import Tensor

from vaezoo.distributions import DiagonalNormal
from vaezoo.likelihoods import ScaledLikelihood


class Gaussian(ScaledLikelihood):
    r"""$\mathcal{N}(x; \mu(z), \sigma^2)$, for any real data.

    Args:
        shape: the event shape of x.
        scale: $\sigma > 0$; the initial value for "learned" and "optimal".
        scale_kind: "fixed"; "learned", an output of the decoder per element; "optimal", one number for all, kept at the
            running root-mean-square error, the value that maximizes the likelihood (Rybkin et al., 2021,
            https://arxiv.org/abs/2006.13202). Under an importance-weighted objective the error of each draw has the
            weight of that draw, which maximizes that bound.
        gaps: whether NaN marks gaps in x, such as the padded ends of series: they add nothing to $\log p(x|z)$ and have
            no effect on an optimal scale; the encoder receives 0 in their place, and a mask.
    """

    def distribution(self, loc: Tensor, log_scale: Tensor, event_dims: int) -> DiagonalNormal:
        """Returns the normal of means and log standard deviations (*batch, *shape)."""
        return DiagonalNormal(loc, log_scale, event_dims)
