r"""Penalties that decode changed latents: rotated and scaled grids, or latents with noise.

Both are distortions $-\mathbb{E}_q \log p(\cdot|\cdot)$ in nats under the likelihood of the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional

from vaezoo.core import Inference, Model, full_precision
from vaezoo.errors import ShapeError

SMALLEST_SCALE = 0.25


@dataclass(frozen=True)
class EquivariancePenalty:
    r"""The penalty $-\mathbb{E}_q \log p(\tau x|\tau z)$, (B,), for one random transformation $\tau$ of each batch.

    Kouzelis et al., 2025, "EQ-VAE" (https://arxiv.org/abs/2502.09509). $\tau$ is a rotation by a multiple of 90 degrees
    and a scale of at least `SMALLEST_SCALE` and at most 1 for which the grid has whole sides, both uniform, drawn from
    torch's random state. x and z are resized by an antialiased bilinear filter. The identity is one of the
    transformations.

    Args:
        turns: numbers of quarter turns that keep the shape of images and grids.
        grids: sizes (h, w) of the scaled grid, the full one last. The others are used if the network of the decoder
            declares that it `takes_smaller_grids`.
        factors: pixels of an image for each position of a grid, vertically and horizontally.
    """

    turns: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]
    factors: tuple[int, int]

    @classmethod
    def of(cls, shape: Sequence[int], latent: Sequence[int]) -> Self:
        """Returns the penalty for images (C, H, W) and grids (D, h, w): of all transformations if both are square.

        Other grids are rotated by 180 degrees alone.

        Raises:
            ShapeError: not an image and a grid, or sides of the image that are no multiples of those of the grid.
        """
        if not (len(shape) == len(latent) == 3) or any(a % b for a, b in zip(shape[1:], latent[1:], strict=True)):
            raise ShapeError(
                f"Got shape = {list(shape)} and latent = {list(latent)}; equivariance expected images (C, H, W) and a "
                "grid (D, h, w) whose sides divide those of the image. Choose such a latent, another size of the "
                "images, or leave equivariance out."
            )
        (height, width), (rows, columns) = shape[1:], latent[1:]
        common = math.gcd(rows, columns)
        parts = range(math.ceil(SMALLEST_SCALE * common), common + 1)
        return cls(
            turns=(0, 1, 2, 3) if height == width and rows == columns else (0, 2),
            grids=tuple((rows // common * part, columns // common * part) for part in parts),
            factors=(height // rows, width // columns),
        )

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the distortion of the transformed images, (B,), nats."""
        smaller = getattr(getattr(model.decoder, "network", None), "takes_smaller_grids", False)
        grids = self.grids if smaller else self.grids[-1:]
        turns, grid = self.turns[draw(len(self.turns))], grids[draw(len(grids))]
        size = (grid[0] * self.factors[0], grid[1] * self.factors[1])
        z = transformed(full_precision(inference.z), turns, grid)
        return distortion(model, transformed(inference.x, turns, size), z, inference.c)


@dataclass(frozen=True)
class NoisePenalty:
    r"""The penalty $-\mathbb{E}_{q,\epsilon} \log p(x|z + \sigma \epsilon)$, (B,), $\epsilon$ from a standard normal.

    Args:
        deviation: $\sigma > 0$, in units of z.
    """

    deviation: float

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the distortion of the images, decoded from noisy latents, (B,), nats."""
        z = full_precision(inference.z)
        return distortion(model, inference.x, z + self.deviation * torch.randn_like(z), inference.c)


def draw(count: int) -> int:
    """Returns a number from 0 to count - 1, uniform, from torch's random state."""
    return int(torch.randint(count, ()))


def transformed(values: Tensor, turns: int, size: tuple[int, int]) -> Tensor:
    """Returns images or grids (..., C, h, w) rotated counter-clockwise by quarter turns, then resized to `size`."""
    turned = torch.rot90(values, turns, (-2, -1))
    if turned.shape[-2:] == size:
        return turned
    rows = functional.interpolate(turned.reshape(-1, *turned.shape[-3:]), size, mode="bilinear", antialias=True)
    return rows.reshape(*turned.shape[:-2], *size)


def distortion(model: Model, x: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
    """Returns the mean of -log p(x|z,c) over the draws z (K, B, *latent), (B,), nats."""
    return -cast(Distribution, model.decoder(z, c)).log_prob(x).mean(0)
