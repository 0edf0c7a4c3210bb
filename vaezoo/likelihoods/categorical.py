"""Categorical pixels."""

from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import CategoricalPixels
from vaezoo.likelihoods import LevelsLikelihood

START_SCALE = 0.1  # of the masses around the mean of the data, from which training starts


class Categorical(LevelsLikelihood):
    """A mass of its own for each value that a pixel can take, as in PixelRNN (https://arxiv.org/abs/1601.06759).

    The decoder has `levels` outputs for each element of x. Neighboring values are unrelated, so that it needs more data
    than a discretized logistic; it can have several modes.

    Args:
        shape: the event shape of x.
        levels: how many values a pixel can take, 256 for 8 bits.
    """

    def __init__(self, shape: Sequence[int], *, levels: Annotated[int, Meta(ge=2, le=1024)] = 256) -> None:
        super().__init__(shape, levels)
        self.outputs = levels

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for logits (..., levels, *shape)."""
        return CategoricalPixels(raw, len(self.shape))

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns logits (levels, *shape) of masses that decrease with the distance from the data's mean."""
        values = torch.linspace(0.0, 1.0, self.levels, dtype=mean.dtype, device=mean.device)
        return -(values.view(-1, *[1] * mean.dim()) - mean).abs() / START_SCALE
