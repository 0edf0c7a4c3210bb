"""The base class of distributions that sample z together with its log density, and numerical helpers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints

from vaezoo.core import Posterior

LOG_TWO_PI = math.log(2.0 * math.pi)
LOG_SCALE_LIMIT = 15.0  # of |log σ|: far beyond it exp() is 0 or infinite, and 0 · ∞ is NaN


def sum_event(values: Tensor, dims: int) -> Tensor:
    """Returns `values` summed over its last `dims` dimensions."""
    return values.flatten(-dims).sum(-1) if dims else values


class JointlyDrawn(Posterior):
    """Base of distributions that draw z together with its log density; a subclass defines `rsample_and_log_prob`."""

    has_rsample = True

    def __init__(self, batch_shape: Sequence[int], event_shape: Sequence[int]) -> None:
        super().__init__(torch.Size(batch_shape), torch.Size(event_shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The whole space, unless a subclass defines another."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns z (*sample, *batch, *event), differentiable in the parameters."""
        return self.rsample_and_log_prob(sample_shape)[0]
