"""Convolutional networks for series (C, T) of any length; padded ends and other gaps have no effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d

from vaezoo.networks.convolutional import (
    ConvOptions,
    Double,
    GridsDown,
    GridsUp,
    ResidualBlock,
    Upsampling,
    append_context_planes,
    check_axes,
    grid_sizes,
)
from vaezoo.networks.network import ACTIVATIONS, check_weights
from vaezoo.networks.perceptron import MLP

Masked = tuple[Tensor, Tensor]
"""Features (rows, channels, T), 0 where the mask (rows or 1, 1, T) is 0, and this mask."""


@dataclass(frozen=True, kw_only=True)
class SeriesOptions(ConvOptions):
    """Options that `SeriesDown` and `SeriesUp` share: those of `ConvOptions`, with blocks on each grid.

    The blocks of a grid have the dilations 1, 2, 4, …. `kernel` is odd, and the activation is 0 at 0.
    """

    upsampling: Upsampling = "nearest"

    def blocks_of(self, width: int) -> list[ResidualBlock]:
        """Returns the residual blocks of a grid."""
        return [ResidualBlock(width, self.kernel, self.activation, 1, 2**depth) for depth in range(self.blocks)]

    def check(self, widths: Sequence[int]) -> None:
        """Validates the number of weights of the convolutions between `widths`, and of the residual blocks."""
        blocks = (self.blocks * width**2 * (self.kernel + 1) for width in self.channels)
        between = (before * after * self.kernel for before, after in pairwise(widths))
        check_weights("convolutional network", [*blocks, *between])


class SeriesStage(nn.Module):
    """A convolution with stride 2, a non-linearity and residual blocks, each multiplied by the mask.

    A position after it is masked if both positions of its pair before it are. The convolutions see zeros in place of
    masked positions, as they see zeros beyond the end: neither the content nor the length of padding has an effect.
    """

    def __init__(self, before: int, after: int, options: SeriesOptions) -> None:
        super().__init__()
        self.layer = nn.Conv1d(before, after, options.kernel, stride=2, padding=options.kernel // 2)
        self.activation = ACTIVATIONS[options.activation]()
        self.blocks = nn.ModuleList(options.blocks_of(after))

    def forward(self, masked: Masked) -> Masked:
        """Returns features (rows, after, ⌈T/2⌉) and their mask."""
        x, mask = masked
        mask = max_pool1d(mask, 2, ceil_mode=True)
        x = self.activation(self.layer(x)) * mask
        for block in self.blocks:
            x = block(x) * mask
        return x, mask


class SeriesDown(GridsDown):
    """Stages that halve the length; then a convolution of kernel 1 to a grid of the last length, or a small MLP.

    Behind `GapNetwork` (`mask_channels` > 0), a position is observed if one of its channels is. Outputs on a grid are 0
    at positions without any observed element: there, the normal of μ = 0 and log σ = 0 equals the standard prior.

    Args:
        shape: (C, T). out: (P, D, t) for grids, (P, n) for vectors. context: width of the context, 0 for none.
        options: see `SeriesOptions`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: SeriesOptions) -> None:
        super().__init__(shape, out, context)
        check_series(shape)
        widths = [shape[0] + context, *options.channels]
        options.check(widths)
        self.stages = nn.Sequential(*(SeriesStage(before, after, options) for before, after in pairwise(widths)))
        grid = (widths[-1], *grid_sizes(shape[1:], len(options.channels))[-1])
        if is_on_grid(out[1:], grid[1]):
            check_weights("convolutional head", [grid[0] * out[0] * out[1]])
            self.head = nn.Conv1d(grid[0], out[0] * out[1], 1)
        else:
            self.head = options.mlp(grid, out, context, options.dense)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        mask = x[:, -self.mask_channels :].amax(1, keepdim=True) if self.mask_channels else x.new_ones(1, 1, x.shape[2])
        features, mask = self.stages((append_context_planes(x, c) * mask, mask))
        found = self.last(features, c)
        return found if isinstance(self.head, MLP) else found * mask


class SeriesUp(GridsUp):
    """The mirror of `SeriesDown`: from a vector (n,) or a grid (D, t) to (P, C, T), at all positions.

    The length is doubled by repetition and a convolution. Arguments as in `SeriesDown`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: SeriesOptions) -> None:
        super().__init__(shape, out, context)
        check_series(out[1:])
        stages = len(options.channels)
        grids = grid_sizes(out[2:], stages)[::-1]
        widths = [*options.channels[::-1], out[0] * out[1]]
        options.check(widths)
        if is_on_grid(shape, grids[0][0]):
            check_weights("convolutional stem", [widths[0] * (shape[0] + context)])
            self.stem = nn.Conv1d(shape[0] + context, widths[0], 1)
        else:
            self.stem = options.mlp(shape, (widths[0], *grids[0]), context, options.dense[::-1])
        layers: list[nn.Module] = []
        for stage, (before, after) in enumerate(pairwise(widths), 1):
            last = stage == stages
            double = Double(before, after, grids[stage], "nearest", options.kernel, bias=not last)
            layers += [*options.blocks_of(before), ACTIVATIONS[options.activation](), double]
        self.stages = nn.Sequential(*layers)
        self.offset = nn.Parameter(torch.zeros(*out))


def is_on_grid(event: Sequence[int], length: int) -> bool:
    """Returns whether a latent (D, t) is a grid of this length, mapped by a convolution and not by dense layers."""
    return len(event) == 2 and event[1] == length


def check_series(shape: Sequence[int]) -> None:
    """Raises ShapeError unless `shape` is (channels, length)."""
    check_axes(shape, "conv1d", ("channels", "length"))
