"""Discretized-logistic pixels."""

from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import DiscretizedLogisticPixels
from vaezoo.likelihoods import LevelsLikelihood


class DiscretizedLogistic(LevelsLikelihood):
    """A logistic rounded to the values that a pixel can take: a probability mass of 8-bit images.

    Args:
        shape: the event shape of x.
        levels: how many values a pixel can take, 256 for 8 bits.
    """

    outputs = 2

    def __init__(self, shape: Sequence[int], *, levels: Annotated[int, Meta(ge=2, le=65536)] = 256) -> None:
        super().__init__(shape, levels)

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for locations and log scales (..., 2, *shape); at raw 0 the scale is 0.1."""
        loc, log_scale = raw.unbind(-1 - len(self.shape))
        # Below a tenth of a level all mass is in one level; the limits keep 1/s and the masses finite.
        log_scale = (log_scale - 2.3).clamp(-12.0, 12.0)
        return DiscretizedLogisticPixels(loc, log_scale, self.levels, len(self.shape))

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns the data's mean as location (2, *shape), with the scale's own start."""
        return torch.stack([mean, torch.zeros_like(mean)])
