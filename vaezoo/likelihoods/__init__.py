"""Likelihoods p(x|z): heads that turn a network's raw output (..., P, *shape) into a distribution with event `shape`.

One file each, found by its name. A head declares how many raw numbers it needs per element of x (`outputs`), whether
it gives probability masses or densities (`mass`), which values have one (`contains`) and which are valid as a training
loss (`accepts`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from vaezoo.core import Likelihood

__all__ = ["LevelsLikelihood", "Likelihood", "UnitLikelihood"]


class UnitLikelihood(Likelihood):
    """The head of a decoder for values in [0, 1]."""

    domain = support = "values in [0, 1]"

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values lie in [0, 1]; NaN does not."""
        return ((x >= 0) & (x <= 1)).flatten(1).all(1)


class LevelsLikelihood(UnitLikelihood):
    """The head of a decoder that gives probability masses to values k/(levels-1) in [0, 1].

    Args:
        shape: the event shape of x.
        levels: how many values a pixel can take, 256 for 8 bits.
    """

    mass = True

    def __init__(self, shape: Sequence[int], levels: int) -> None:
        super().__init__(shape)
        self.levels = levels
        self.support = f"multiples of 1/{levels - 1} in [0, 1]"

    def contains(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values lie on the levels."""
        scaled = x * (self.levels - 1)
        rounding = 1e-3 + self.levels * torch.finfo(torch.float32).eps  # of k/(levels-1) in float32
        return self.accepts(x) & ((scaled - scaled.round()).abs() < rounding).flatten(1).all(1)
