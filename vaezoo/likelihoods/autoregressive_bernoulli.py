"""Bernoulli pixels that depend on their neighbors."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import AutoregressiveBernoulliPixels, preceding
from vaezoo.likelihoods.bernoulli import Bernoulli


class AutoregressiveBernoulli(Bernoulli):
    r"""Bernoulli pixels whose logits are linear in the neighbors that precede them, with weights from the decoder.

    $\sigma^{-1}(p_i) = a_i(z) + \sum_t w_{it}(z)\,(x_{i+t} - 1/2)$ over the pixels up to `window` rows above and
    `window` columns to each side that precede pixel i, row by row. z still encodes what the window does not cover, as
    in the lossy autoencoder of Chen et al. (2017, https://arxiv.org/abs/1611.02731). PixelVAE (Gulrajani et al., 2017,
    https://arxiv.org/abs/1611.05013) has masked convolutions instead. `mean` is approximate, see
    `AutoregressiveBernoulliPixels.mean`; `model.decode(z).sample()` draws images.

    Args:
        shape: the event shape of x. Other shapes than images (C, H, W) have neighbors along the last axis.
        window: largest distance of a neighbor, limited by `shape`. A decoder of images has 1 + 2 window (window + 1)
            outputs for each pixel: 13 for 2, 145 for 8.
    """

    def __init__(self, shape: Sequence[int], *, window: Annotated[int, Meta(ge=1, le=8)] = 2) -> None:
        super().__init__(shape)
        self.offsets = preceding(window, *self.grid(shape)[1:])
        self.outputs = 1 + len(self.offsets)

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for logits and weights (..., P, *shape)."""
        leading, shape = raw.shape[: raw.dim() - len(self.shape)], raw.shape[raw.dim() - len(self.shape) :]
        found = raw.reshape(*leading, *self.grid(shape))
        return AutoregressiveBernoulliPixels(found[..., 0, :, :, :], found[..., 1:, :, :, :], self.offsets, shape)

    @staticmethod
    def grid(shape: Sequence[int]) -> tuple[int, int, int]:
        """Returns x of this shape as (C, H, W): other shapes than images have one row for each leading index."""
        height, width = shape[-2:] if len(shape) == 3 else (1, shape[-1])
        return math.prod(shape) // (height * width), height, width

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns the logits of the data's mean, kept within ±5, and weights of 0, (P, *shape)."""
        logits = torch.logit(mean.clamp(0.0, 1.0), eps=1e-6).clamp(-5.0, 5.0)
        return torch.cat([logits.unsqueeze(0), logits.new_zeros(self.outputs - 1, *mean.shape)])
