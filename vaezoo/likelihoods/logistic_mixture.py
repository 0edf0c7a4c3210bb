"""Mixtures of discretized logistics."""

from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import LogisticMixturePixels
from vaezoo.likelihoods import LevelsLikelihood

START = 2.3  # minus the log scale from which training starts: a tenth of the range of x


class LogisticMixture(LevelsLikelihood):
    """A mixture of logistics, rounded to the values that a pixel can take, whose channels depend on each other.

    Salimans et al., 2017, "PixelCNN++" (https://arxiv.org/abs/1701.05517): one component for all channels of a pixel;
    the location of a channel is linear in the channels before it. Images (C, H, W) have C channels, other shapes one.

    Args:
        shape: the event shape of x.
        components: number of components at each position.
        levels: how many values a pixel can take, 256 for 8 bits.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        components: Annotated[int, Meta(ge=1, le=64)] = 5,
        levels: Annotated[int, Meta(ge=2, le=65536)] = 256,
    ) -> None:
        super().__init__(shape, levels)
        self.components = components
        self.channels = shape[0] if len(shape) == 3 else 1
        self.pairs = self.channels * (self.channels - 1) // 2
        # Each channel carries its share of the pairs of channels, rounded up: 1 for C = 3.
        self.outputs = components * (3 + self.channels // 2)

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for raw outputs (..., P, *shape).

        For each component and channel these are a share of the component's logit, a location, a log scale (0.1 at raw
        0) and coefficients, whose hyperbolic tangents are taken.
        """
        leading, shape = raw.shape[: raw.dim() - 1 - len(self.shape)], raw.shape[raw.dim() - len(self.shape) :]
        found = raw.reshape(*leading, self.components, self.outputs // self.components, self.channels, -1)
        logits, loc, log_scale = found[..., :3, :, :].unbind(-3)
        coefficients = found[..., 3:, :, :].flatten(-3, -2)[..., : self.pairs, :].tanh()
        log_scale = (log_scale - START).clamp(-12.0, 12.0)
        return LogisticMixturePixels(logits.mean(-2), loc, log_scale, coefficients, self.levels, shape)

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns locations (P, *shape) around the data's mean, a scale's width apart, and zeros for the rest."""
        raw = mean.new_zeros(self.components, self.outputs // self.components, *self.shape)
        raw[:, 1] = mean + 0.1 * (torch.arange(self.components).to(mean) - (self.components - 1) / 2).view(
            -1, *[1] * mean.dim()
        )
        return raw.flatten(0, 1)
