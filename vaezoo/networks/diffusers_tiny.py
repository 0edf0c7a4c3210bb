"""Small convolutional networks without normalization, in the form of distilled image autoencoders."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from vaezoo.networks.convolutional import (
    DENSE_ADVICE,
    Double,
    GridsDown,
    append_context_planes,
    check_grid,
    check_image,
    grid_sizes,
    is_on_grid,
)
from vaezoo.networks.network import ACTIVATIONS, Activation, Network, check_weights
from vaezoo.networks.perceptron import MLP

LARGEST_LATENT = 3.0  # in magnitude, after the soft clamp of the decoder


@dataclass(frozen=True, kw_only=True)
class TinyOptions:
    """Options of one network: its `width`, the number of `blocks` on each grid, the largest first, and `activation`."""

    width: int
    blocks: Sequence[int]
    activation: Activation

    def grids(self, size: Sequence[int], count: int = 0) -> list[tuple[int, ...]]:
        """Returns `count` grids from `size` (H, W) down; 0: one for each number of blocks."""
        return grid_sizes(size, (count or len(self.blocks)) - 1)

    def check(self, ends: int) -> None:
        """Validates the number of weights; `ends` is the largest number of channels of the first or last layer."""
        layers = 3 * sum(self.blocks) + len(self.blocks)
        check_weights("convolutional network", [9 * layers * self.width**2, 18 * ends * self.width])

    def block(self) -> "TinyBlock":
        """Returns a block."""
        return TinyBlock(self.width, self.activation)


class TinyBlock(nn.Module):
    """A residual block of three 3 x 3 convolutions; the sum goes through a rectifier."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.layers = nn.Sequential(convolutions[0], act(), convolutions[1], act(), convolutions[2])

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, width, h, w)."""
        return torch.relu(self.layers(x) + x)


class TinyDown(GridsDown):
    """Blocks and strided convolutions; then a convolution to a grid, or a dense layer to a vector.

    Args:
        shape: (C, H, W). out: (P, n) for vectors, (P, D, h, w) for grids. context: width of the context, 0 for none.
        options: see `TinyOptions`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: TinyOptions) -> None:
        super().__init__(shape, out, context)
        check_image(shape, "diffusers-tiny")
        options.check(max(shape[0] + context, out[0] * out[1] if len(out) == 4 else 0))
        width, grids = options.width, options.grids(shape[1:])
        layers: list[nn.Module] = []
        for grid, blocks in enumerate(options.blocks):
            halve = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
            layers.append(halve if grid else nn.Conv2d(shape[0] + context, width, 3, padding=1))
            layers += [options.block() for _ in range(blocks)]
        self.stages = nn.Sequential(*layers)
        if is_on_grid(out[1:], grids[-1]):
            check_grid(out[1:], shape, len(grids), options.grids(shape[1:], 8))
            self.head = nn.Conv2d(width, out[0] * out[1], 3, padding=1)
        else:
            self.head = MLP((width, *grids[-1]), out, context, (), options.activation, advice=DENSE_ADVICE)


class TinyUp(Network):
    r"""The mirror of `TinyDown`: from a vector or a grid, clamped by $3 \tanh(z / 3)$, to (P, C, H, W).

    The last layer has one bias for each channel. Arguments as in `TinyDown`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: TinyOptions) -> None:
        super().__init__(shape, out, context)
        check_image(out[1:], "diffusers-tiny")
        options.check(max(out[0] * out[1], shape[0] + context if len(shape) == 3 else 0))
        width, grids = options.width, options.grids(out[2:])[::-1]
        self.stem: nn.Conv2d | MLP
        if is_on_grid(shape, grids[0]):
            check_grid(shape, out[1:], len(grids), options.grids(out[2:], 8))
            self.stem = nn.Conv2d(shape[0] + context, width, 3, padding=1)
            self.takes_smaller_grids = True
        else:
            self.stem = MLP(shape, (width, *grids[0]), context, (), options.activation, advice=DENSE_ADVICE)
        layers: list[nn.Module] = [ACTIVATIONS[options.activation]()]
        for grid, blocks in enumerate(options.blocks[::-1]):
            layers += [options.block() for _ in range(blocks)]
            if grid < len(grids) - 1:
                layers.append(Double(width, width, grids[grid + 1], "nearest", bias=False))
        self.stages = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, out[0] * out[1], 3, padding=1)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        x = torch.tanh(x / LARGEST_LATENT) * LARGEST_LATENT
        features = self.stem(append_context_planes(x, c)) if isinstance(self.stem, nn.Conv2d) else self.stem(x, c)
        pixels: Tensor = self.head(self.stages(features))
        return rearrange(pixels, "n (p c) h w -> n p c h w", p=self.out[0])

    def last_layer(self) -> nn.Module:
        """Returns the last convolution."""
        return self.head

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the bias of each channel to the mean of `output` (*out) over its positions."""
        if self.head.bias is not None:
            with torch.no_grad():
                self.head.bias.copy_(output.mean((-2, -1)).flatten())
