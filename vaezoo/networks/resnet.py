"""Residual convolutional networks with group normalization, for images of any size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vaezoo.networks.convolutional import (
    DENSE_ADVICE,
    MOST_STAGES,
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

ResnetUpsampling = Literal["nearest", "pixel-shuffle"]


@dataclass(frozen=True, kw_only=True)
class ResnetOptions:
    """Options that `ResnetDown` and `ResnetUp` share.

    `channels`: width on each grid; each grid after the first is half of the previous one. `blocks`: residual blocks on
    each grid. `attention`: self-attention on the last grid. `patch`: side of the squares of pixels that the first layer
    takes as channels. `upsampling`: how grids are doubled. `dense`: hidden widths between the last grid and a vector.
    `activation`: the non-linearity. `checkpointing`: whether activations inside blocks are computed again for the
    backward pass instead of stored. `groups`: of each normalization; 0 chooses by width. `grid_attention`: for each
    grid, the largest first, whether self-attention follows each of its blocks; () for none. `last_activation`: the
    non-linearity before the last layer; None for `activation`.
    """

    channels: Sequence[int]
    blocks: int
    attention: bool
    patch: int
    upsampling: ResnetUpsampling
    dense: Sequence[int]
    activation: Activation
    checkpointing: bool
    groups: int = 0
    grid_attention: Sequence[bool] = ()
    last_activation: Activation | None = None

    def grids(self, size: Sequence[int], widths: int = 0) -> list[tuple[int, ...]]:
        """Returns the grids of an image of `size` (H, W), one for each of so many `widths` (those of `channels`)."""
        first = [math.ceil(side / self.patch) for side in size]
        return grid_sizes(first, (widths or len(self.channels)) - 1)

    def check(self, ends: int) -> None:
        """Validates the number of weights; `ends` is the number of channels of the first and the last layer."""
        last = self.channels[-1]
        inner = [width * width * 18 * (self.blocks + 1) for width in self.channels]
        between = [before * after * 9 for before, after in pairwise(self.channels)]
        check_weights("residual network", [*inner, *between, last * last * 40, 9 * ends * (self.channels[0] + last)])

    def middle(self) -> list[nn.Module]:
        """Returns the blocks on the last grid that the encoder ends with and the decoder begins with."""
        width = self.channels[-1]
        attention = [Attention(width, self.groups)] if self.attention else []
        return [self.block(width, width), *attention, self.block(width, width)]

    def block(self, before: int, after: int) -> "Block":
        """Returns a residual block."""
        return Block(before, after, self.activation, self.checkpointing, self.groups)

    def on_grid(self, grid: int, widths: Sequence[int]) -> list[nn.Module]:
        """Returns the blocks between `widths` on the grid of this number, 0 for the largest, and their attention."""
        attends = bool(self.grid_attention) and self.grid_attention[grid]
        return [
            layer
            for before, after in pairwise(widths)
            for layer in (self.block(before, after), *([Attention(after, self.groups)] if attends else []))
        ]

    def last(self, width: int) -> list[nn.Module]:
        """Returns the normalization and the non-linearity before the last layer."""
        return [normalization(width, self.groups), ACTIVATIONS[self.last_activation or self.activation]()]


class Block(nn.Module):
    """A residual block: twice group normalization, non-linearity and a 3 x 3 convolution."""

    def __init__(
        self, before: int, after: int, activation: Activation, checkpointing: bool = False, groups: int = 0
    ) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.layers = nn.Sequential(
            normalization(before, groups), act(), nn.Conv2d(before, after, 3, padding=1),
            normalization(after, groups), act(), nn.Conv2d(after, after, 3, padding=1),
        )  # fmt: skip
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.checkpointing = checkpointing

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, after, h, w)."""
        if self.checkpointing and self.training and torch.is_grad_enabled():
            layers = cast(Tensor, checkpoint(self.layers, x, use_reentrant=False, preserve_rng_state=False))
        else:
            layers = self.layers(x)
        return cast(Tensor, self.shortcut(x)) + layers


class Attention(nn.Module):
    """Self-attention with one head over the positions of a grid, added to its input."""

    def __init__(self, width: int, groups: int = 0) -> None:
        super().__init__()
        self.normalize = normalization(width, groups)
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, width, h, w)."""
        positions = rearrange(self.normalize(x), "n c h w -> n (h w) c")
        query, key, value = self.inputs(positions).chunk(3, -1)
        if torch.is_grad_enabled():
            # Not torch's fused function, whose gradients have no gradients, which some objectives need.
            found = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1) @ value
        else:  # without a matrix of all pairs of positions
            found = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + rearrange(self.output(found), "n (h w) c -> n c h w", h=x.shape[2])
        return out


class Halve(nn.Module):
    """A convolution with stride 2; sides are rounded up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, width, ⌈h/2⌉, ⌈w/2⌉)."""
        height, width = x.shape[2:]
        return cast(Tensor, self.layer(functional.pad(x, (width % 2, 1, height % 2, 1))))


class ResnetDown(GridsDown):
    """Residual blocks and strided convolutions; then a convolution to a grid, or dense layers to a vector.

    Args:
        shape: (C, H, W). out: (P, n) for vectors, (P, D, h, w) for grids. context: width of the context, 0 for none.
        options: see `ResnetOptions`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: ResnetOptions) -> None:
        super().__init__(shape, out, context)
        check_image(shape, "resnet")
        self.patch, grids, widths = options.patch, options.grids(shape[1:]), options.channels
        inputs = shape[0] * options.patch**2 + context
        options.check(max(inputs, out[0] * out[1] if len(out) == 4 else 0))
        layers: list[nn.Module] = [nn.Conv2d(inputs, widths[0], 3, padding=1)]
        for stage, width in enumerate(widths):
            layers += options.on_grid(stage, [widths[max(0, stage - 1)], *[width] * options.blocks])
            if stage < len(widths) - 1:
                layers.append(Halve(width))
        self.stages = nn.Sequential(*layers, *options.middle(), *options.last(widths[-1]))
        grid = (widths[-1], *grids[-1])
        if is_on_grid(out[1:], grid[1:]):
            check_grid(out[1:], shape, len(widths), options.grids(shape[1:], MOST_STAGES))
            self.head = nn.Conv2d(grid[0], out[0] * out[1], 3, padding=1)
        else:
            self.head = MLP(grid, out, context, options.dense, options.activation, advice=DENSE_ADVICE)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        height, width = (-side % self.patch for side in x.shape[2:])
        if self.patch > 1:
            x = functional.pixel_unshuffle(functional.pad(x, (0, width, 0, height), mode="replicate"), self.patch)
        return super().rows(x, c)


class ResnetUp(Network):
    """The mirror of `ResnetDown`, with one block more on each grid: from a vector or a grid to (P, C, H, W).

    The last layer has one bias for each channel. Arguments as in `ResnetDown`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: ResnetOptions) -> None:
        super().__init__(shape, out, context)
        check_image(out[1:], "resnet")
        self.patch, grids, widths = options.patch, options.grids(out[2:])[::-1], options.channels[::-1]
        outputs = out[0] * out[1] * options.patch**2
        options.check(max(outputs, shape[0] + context if len(shape) == 3 else 0))
        grid = (widths[0], *grids[0])
        self.stem: nn.Conv2d | MLP
        if is_on_grid(shape, grid[1:]):
            check_grid(shape, out[1:], len(widths), options.grids(out[2:], MOST_STAGES))
            self.stem = nn.Conv2d(shape[0] + context, grid[0], 3, padding=1)
            self.takes_smaller_grids = True
        else:
            self.stem = MLP(shape, grid, context, options.dense[::-1], options.activation, advice=DENSE_ADVICE)
        layers = options.middle()
        for stage, width in enumerate(widths):
            between = [widths[max(0, stage - 1)], *[width] * (options.blocks + 1)]
            layers += options.on_grid(len(widths) - 1 - stage, between)
            if stage < len(widths) - 1:
                layers.append(Double(width, width, grids[stage + 1], options.upsampling))
        self.stages = nn.Sequential(*layers, *options.last(widths[-1]))
        self.head = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        features = self.stem(append_context_planes(x, c)) if isinstance(self.stem, nn.Conv2d) else self.stem(x, c)
        pixels = functional.pixel_shuffle(self.head(self.stages(features)), self.patch)
        return rearrange(pixels[..., : self.out[2], : self.out[3]], "n (p c) h w -> n p c h w", p=self.out[0])

    def last_layer(self) -> nn.Module:
        """Returns the last convolution."""
        return self.head

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the bias of each channel to the mean of `output` (*out) over its positions."""
        with torch.no_grad():
            means = output.mean((-2, -1)).flatten()
            cast(Tensor, self.head.bias).copy_(means.repeat_interleave(self.patch**2))


def normalization(width: int, groups: int = 0) -> nn.GroupNorm:
    """Returns group normalization; 0 groups: up to 32, of at least 4 channels where there are so many."""
    return nn.GroupNorm(groups or math.gcd(32, max(1, width // 4), width), width, eps=1e-6)
