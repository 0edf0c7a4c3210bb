"""Laplace pixels or features."""

from torch import Tensor

from vaezoo.distributions import DiagonalLaplace
from vaezoo.likelihoods import ScaledLikelihood


class Laplace(ScaledLikelihood):
    r"""$e^{-|x - \mu(z)| / b} / (2b)$, for any real data: the sum of absolute errors as a likelihood.

    With b = 1 the distortion is that sum plus log 2 for each element of x. Pixels in [0, 1] with b = 0.5 give what
    pixels in [-1, 1] give with b = 1, up to that constant.

    Args:
        shape: the event shape of x.
        scale: $b > 0$; the initial value for "learned" and "optimal".
        scale_kind: "fixed"; "learned", an output of the decoder per element; "optimal", one number for all, kept at the
            running mean absolute error, the value that maximizes the likelihood, as for `gaussian`.
        gaps: as for `gaussian`.
    """

    power = 1
    error = "absolute_error"

    def distribution(self, loc: Tensor, log_scale: Tensor, event_dims: int) -> DiagonalLaplace:
        """Returns the Laplace distributions of locations and log scales (*batch, *shape)."""
        return DiagonalLaplace(loc, log_scale, event_dims)
