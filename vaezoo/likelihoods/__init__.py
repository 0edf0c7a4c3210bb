"""Likelihoods p(x|z): heads that turn a network's raw output (..., P, *shape) into a distribution with event `shape`.

One file each, found by its name. A head declares how many raw numbers it needs per element of x (`outputs`), which
values have a density (`contains`) and which are valid as a training loss (`accepts`).
"""

from collections.abc import Sequence

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import LARGEST_VALUE, Part


class Likelihood(Part):
    """The head of a decoder.

    Args:
        shape: the event shape of x.
    """

    #: raw numbers per element of x
    outputs = 1
    #: description of the values that `accepts` accepts, for messages
    domain = f"finite values of magnitude up to {LARGEST_VALUE:g}"
    #: description of the values that `contains` contains, for messages
    support = domain

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for raw outputs (..., P, *shape)."""
        raise NotImplementedError

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values may be trained on; NaN and infinity never."""
        return (x.abs() <= LARGEST_VALUE).flatten(1).all(1)

    def contains(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether it has a density; all of these `accepts` accepts."""
        return self.accepts(x)

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns raw outputs (P, *shape) whose distribution has the data's mean (*shape), or None to start at 0."""
        return None


class UnitLikelihood(Likelihood):
    """The head of a decoder for values in [0, 1]."""

    domain = support = "values in [0, 1]"

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values lie in [0, 1]; NaN does not."""
        return ((x >= 0) & (x <= 1)).flatten(1).all(1)
