"""Convolutional networks for images of any size and any number of channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from einops import rearrange
from msgspec import Meta
from torch import Tensor, nn

from vaezoo.errors import ShapeError
from vaezoo.networks.initialization import check_weights
from vaezoo.networks.network import ACTIVATIONS, Activation, Network
from vaezoo.networks.perceptron import MLP

__all__ = ["ConvDown", "ConvUp"]

Width = Annotated[int, Meta(ge=1, le=8192)]


def grid_sizes(size: Sequence[int], stages: int) -> list[tuple[int, int]]:
    """Returns the grids from `size` (H, W) down, each half of the last, rounded up."""
    grids = [(size[0], size[1])]
    for _ in range(stages):
        grids.append(((grids[-1][0] + 1) // 2, (grids[-1][1] + 1) // 2))
    return grids


def check_image(shape: Sequence[int]) -> None:
    """Raises ShapeError unless `shape` is (channels, height, width)."""
    if len(shape) != 3:
        raise ShapeError(
            f"Got shape {tuple(shape)}; the conv backbone expected (channels, height, width). Use backbone 'mlp'."
        )


def check_grid(event: Sequence[int], shape: Sequence[int], stages: int) -> None:
    """Raises ShapeError unless a latent (channels, h, w) lies on the last grid of the ladder."""
    grids = grid_sizes(shape[1:], 8)
    if tuple(event[1:]) != grids[stages]:
        sizes = [f"{high}x{wide}" for high, wide in grids]
        reach = ", ".join(f"{size} with {depth}" for depth, size in enumerate(sizes[1:], 1) if size != sizes[depth - 1])
        raise ShapeError(
            f"Got latent {list(event)}; the conv backbone with {stages} widths in channels brings {tuple(shape)} to a "
            f"grid of {sizes[stages]}. Reachable grids: {reach or sizes[0]} widths in channels."
        )


def lies_on(grid: Sequence[int], event: Sequence[int]) -> bool:
    """Says whether a latent is on the last grid; a vector is not, nor one position, which dense layers make of any."""
    return len(event) == 3 and (tuple(event[1:]) != (1, 1) or tuple(grid) == (1, 1))


def count_weights(widths: Sequence[int], kernel: int, blocks: int) -> list[int]:
    """Returns how many weights each stage has, between these widths."""
    return [*(a * b * kernel**2 for a, b in pairwise(widths)), blocks * max(widths) ** 2 * (kernel**2 + 1)]


class Block(nn.Module):
    """A residual block: activation, k x k convolution, activation, 1 x 1 convolution."""

    def __init__(self, channels: int, kernel: int, activation: Activation) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.layers = nn.Sequential(
            act(), nn.Conv2d(channels, channels, kernel, padding=kernel // 2), act(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, channels, h, w)."""
        out: Tensor = x + self.layers(x)
        return out


def append_context_planes(x: Tensor, c: Tensor | None) -> Tensor:
    """Returns images (rows, C, h, w) with the context (rows, c) as constant planes beside them."""
    if c is None:
        return x
    return torch.cat([x, c.to(x.dtype)[..., None, None].expand(-1, -1, *x.shape[2:])], 1)


class ConvDown(Network):
    """Strided convolutions, each halving the grid; then a small MLP to a vector, or a 1 x 1 convolution to a grid.

    Args:
        shape: (C, H, W). out: (P, n) for vectors, (P, D, h, w) for grids. context: width of the context, 0 for none.
        channels: width of each stage. dense: hidden widths between grid and vector. blocks: residual blocks on the
            last grid. kernel: odd size of the convolutions. activation: the non-linearity.
    """

    def __init__(
        self,
        shape: Sequence[int],
        out: Sequence[int],
        context: int,
        *,
        channels: Sequence[int],
        dense: Sequence[int],
        blocks: int,
        kernel: int,
        activation: Activation,
    ) -> None:
        super().__init__(shape, out, context)
        check_image(shape)
        check_weights("convolutional network", count_weights([shape[0] + context, *channels], kernel, blocks))
        layers: list[nn.Module] = []
        for before, after in pairwise([shape[0] + context, *channels]):
            layers += [nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2), ACTIVATIONS[activation]()]
        layers[-1:-1] = [Block(channels[-1], kernel, activation) for _ in range(blocks)]
        self.stages = nn.Sequential(*layers)
        grid = (channels[-1], *grid_sizes(shape[1:], len(channels))[-1])
        self.head: nn.Module
        if lies_on(grid[1:], out[1:]):
            check_grid(out[1:], shape, len(channels))
            check_weights("convolutional head", [channels[-1] * out[0] * out[1]])
            self.head = nn.Conv2d(channels[-1], out[0] * out[1], 1)
        else:
            self.head = MLP(grid, out, context, dense, activation)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        features = self.stages(append_context_planes(x, c))
        out: Tensor = self.head(features) if isinstance(self.head, nn.Conv2d) else self.head(features, c)
        return out


class ConvUp(Network):
    """The mirror of `ConvDown`: from a vector (n,) or a grid (D, h, w) to (P, C, H, W), every grid met exactly.

    The last layer adds a learnt offset to each element of its output, not one bias to each channel: it can start at
    the mean image. Arguments as in `ConvDown`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        out: Sequence[int],
        context: int,
        *,
        channels: Sequence[int],
        dense: Sequence[int],
        blocks: int,
        kernel: int,
        activation: Activation,
    ) -> None:
        super().__init__(shape, out, context)
        check_image(out[1:])
        act = ACTIVATIONS[activation]
        grids = grid_sizes(out[2:], len(channels))[::-1]
        self.stem: nn.Module
        if lies_on(grids[0], shape):
            check_grid(shape, out[1:], len(channels))
            check_weights("convolutional stem", [channels[-1] * (shape[0] + context)])
            self.stem = nn.Conv2d(shape[0] + context, channels[-1], 1)
        else:
            self.stem = MLP(shape, (channels[-1], *grids[0]), context, dense[::-1], activation)
        layers: list[nn.Module] = [Block(channels[-1], kernel, activation) for _ in range(blocks)]
        widths = [*channels[::-1], out[0] * out[1]]
        check_weights("convolutional network", count_weights(widths, kernel, blocks))
        for stage, (before, after) in enumerate(pairwise(widths), 1):
            high, wide = grids[stage]
            padding, last = (1 - high % 2, 1 - wide % 2), stage == len(channels)
            # An odd side needs no padding, an even one does: 2n - 1 or 2n.
            layers += [act(), nn.ConvTranspose2d(before, after, kernel, 2, kernel // 2, padding, bias=not last)]
        self.stages = nn.Sequential(*layers)
        self.offset = nn.Parameter(torch.zeros(*out))

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        features = self.stem(append_context_planes(x, c)) if isinstance(self.stem, nn.Conv2d) else self.stem(x, c)
        pixels = rearrange(self.stages(features), "n (p c) h w -> n p c h w", p=self.out[0])
        out: Tensor = pixels + self.offset
        return out

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the offset to `output` (*out)."""
        with torch.no_grad():
            self.offset.copy_(output)
