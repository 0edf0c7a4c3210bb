"""Likelihoods p(x|z): heads that turn a network's raw output (..., P, *shape) into a distribution with event `shape`.

One file each, found by its name. A head declares how many raw numbers it needs per element of x (`outputs`), whether
it gives probability masses or densities (`mass`), which values have one (`contains`) and which are valid as a training
loss (`accepts`).
"""

from torch import Tensor

from vaezoo.core import Likelihood

__all__ = ["Likelihood", "UnitLikelihood"]


class UnitLikelihood(Likelihood):
    """The head of a decoder for values in [0, 1]."""

    domain = support = "values in [0, 1]"

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values lie in [0, 1]; NaN does not."""
        return ((x >= 0) & (x <= 1)).flatten(1).all(1)
