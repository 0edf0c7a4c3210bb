"""Networks in the form of deep compression autoencoders, which reduce the sides of images by up to 128.

Chen et al. (2024), https://arxiv.org/abs/2410.10733; attention of linear cost after Cai et al. (2023),
https://arxiv.org/abs/2205.14756. Changes of the grid have shortcuts without weights: channels are arranged as squares
of positions or the reverse, and averaged or repeated.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional

from vaezoo.core import full_precision
from vaezoo.errors import ShapeError
from vaezoo.networks.convolutional import (
    DENSE_ADVICE,
    append_context_planes,
    check_grid,
    check_image,
    grid_sizes,
    is_on_grid,
)
from vaezoo.networks.network import ACTIVATIONS, Activation, Network, check_weights
from vaezoo.networks.perceptron import MLP

Normalization = Literal["rms", "batch"]
EPSILON = 1e-5  # added to mean squares and variances
EXPANSION = 4  # of the channels inside a gated convolution


@dataclass(frozen=True, kw_only=True)
class DeepOptions:
    """Options of one network; each sequence has an entry for each grid, the largest first.

    `channels`: widths. `blocks`: number of blocks; 0 is allowed for the first grid, on which the image itself is then
    halved or doubled. `attention`: whether blocks have linear attention instead of convolutions. `scales`: sizes of the
    convolutions beside the attention's own queries, keys and values. `head_width`: channels of each head of attention.
    `shuffle`: whether grids are changed by arranging channels, instead of strides or repetition. `shortcut`: whether
    the layer beside the latents has one. `normalizations` and `activations`: of blocks with convolutions.
    `last_activation`: before the last layer of a decoder.
    """

    channels: Sequence[int]
    blocks: Sequence[int]
    attention: Sequence[bool]
    scales: Sequence[Sequence[int]]
    head_width: int
    shuffle: bool
    shortcut: bool
    normalizations: Sequence[Normalization]
    activations: Sequence[Activation]
    last_activation: Activation = "relu"

    @property
    def first(self) -> int:
        """The grid of the outermost layers with channels, 0 or 1."""
        return 0 if self.blocks[0] else 1

    def grids(self, size: Sequence[int], count: int = 0) -> list[tuple[int, ...]]:
        """Returns `count` grids from `size` (H, W) down; 0: one for each width."""
        return grid_sizes(size, (count or len(self.channels)) - 1)

    def check(self, ends: int) -> None:
        """Validates the number of weights; `ends` is the largest number of channels of the first or last layer."""
        wide = (2 * EXPANSION + EXPANSION + 3 + 18) + 3 * sum(map(len, self.scales)) * self.head_width
        inner = [blocks * width**2 * wide for blocks, width in zip(self.blocks, self.channels, strict=True)]
        between = [36 * before * after for before, after in pairwise(self.channels)]
        check_weights("convolutional network", [*inner, *between, 36 * ends * max(self.channels)])

    def check_shortcut(self, channels: int) -> None:
        """Raises ShapeError unless latents have as many channels as a shortcut can average or repeat."""
        if self.shortcut and self.channels[-1] % channels:
            raise ShapeError(
                f"Got latents with {channels} channels beside {self.channels[-1]} of diffusers-dc; expected a divisor, "
                "or down_shortcut = false and up_shortcut = false."
            )

    def on_grid(self, grid: int) -> Iterator[nn.Module]:
        """Yields the blocks on the grid of this number."""
        width, scales = self.channels[grid], self.scales[grid]
        for _ in range(self.blocks[grid]):
            if self.attention[grid]:
                yield AttentionBlock(width, self.head_width, scales, self.normalizations[grid])
            else:
                yield ConvolutionBlock(width, self.normalizations[grid], self.activations[grid])


class ChannelNormalization(nn.Module):
    """Divides the channels at each position by their root mean square, and scales and shifts them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, width, h, w)."""
        scale = (full_precision(x).square().mean(1, keepdim=True) + EPSILON).rsqrt()
        scaled = (x * scale).to(self.weight.dtype)
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


class StoredBatchNormalization(nn.Module):
    """Batch normalization by stored means and variances, also in training, so that examples stay independent."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))  # kept for files

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, width, h, w)."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return functional.batch_norm(x, mean, variance, self.weight, self.bias, eps=EPSILON)


NORMALIZATIONS: dict[Normalization, type[nn.Module]] = {"rms": ChannelNormalization, "batch": StoredBatchNormalization}


class ConvolutionBlock(nn.Module):
    """A residual block: 3 x 3 convolution, non-linearity, 3 x 3 convolution, normalization."""

    def __init__(self, width: int, normalization: Normalization, activation: Activation) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            ACTIVATIONS[activation](),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            NORMALIZATIONS[normalization](width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, width, h, w)."""
        return cast(Tensor, self.layers(x)) + x


class LinearAttention(nn.Module):
    r"""Attention $\sum_j v_j k_j^\top q_i / \sum_j k_j^\top q_i$ of rectified q and k, at a cost linear in positions.

    Beside those of single positions there are heads for neighborhoods: convolutions of q, k and v of each size in
    `scales`. The result is normalized and added to the input.
    """

    def __init__(self, width: int, head_width: int, scales: Sequence[int], normalization: Normalization) -> None:
        super().__init__()
        heads, self.head_width = width // head_width, head_width
        inner = 3 * heads * head_width
        self.inputs = nn.Linear(width, inner, bias=False)
        self.scales = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    proj_in=nn.Conv2d(inner, inner, size, padding=size // 2, groups=inner, bias=False),
                    proj_out=nn.Conv2d(inner, inner, 1, groups=3 * heads, bias=False),
                )
            )
            for size in scales
        )
        self.output = nn.Linear(heads * head_width * (1 + len(scales)), width, bias=False)
        self.normalize = NORMALIZATIONS[normalization](width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, width, h, w)."""
        single = self.inputs(x.movedim(1, -1)).movedim(-1, 1)
        every = torch.cat([single, *(scale(single) for scale in self.scales)], 1)
        heads = rearrange(full_precision(every), "n (m d) h w -> n m d (h w)", d=3 * self.head_width)
        query, key, value = heads.chunk(3, 2)
        query, key = query.relu(), key.relu()
        weighted = (value @ key.mT) @ query
        total = key.sum(-1, keepdim=True).mT @ query
        found = rearrange(weighted / (total + 1e-15), "n m d (h w) -> n h w (m d)", h=x.shape[2]).to(every.dtype)
        return cast(Tensor, self.normalize(self.output(found).movedim(-1, 1))) + x


class GatedConvolution(nn.Module):
    """A residual block of wide depthwise convolutions, half of whose channels are gates of the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 2 * EXPANSION * width
        self.expand, self.depth = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.reduce = nn.Conv2d(inner // 2, width, 1, bias=False)
        self.normalize = ChannelNormalization(width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, width, h, w)."""
        values, gates = self.depth(functional.silu(self.expand(x))).chunk(2, 1)
        return cast(Tensor, self.normalize(self.reduce(values * functional.silu(gates)))) + x


class AttentionBlock(nn.Module):
    """Linear attention and a gated convolution."""

    def __init__(self, width: int, head_width: int, scales: Sequence[int], normalization: Normalization) -> None:
        super().__init__()
        self.attention = LinearAttention(width, head_width, scales, normalization)
        self.convolution = GatedConvolution(width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, width, h, w)."""
        return cast(Tensor, self.convolution(self.attention(x)))


class HalveGrid(nn.Module):
    """A convolution from a grid to one of half its sides; the shortcut averages groups of its squares of 2 x 2."""

    def __init__(self, before: int, after: int, shuffle: bool, shortcut: bool = True) -> None:
        super().__init__()
        self.after, self.shuffle, self.shortcut = after, shuffle, shortcut
        self.layer = nn.Conv2d(before, after // 4 if shuffle else after, 3, 1 if shuffle else 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, after, h/2, w/2)."""
        found = functional.pixel_unshuffle(self.layer(x), 2) if self.shuffle else self.layer(x)
        return averaged(functional.pixel_unshuffle(x, 2), self.after) + found if self.shortcut else found


class DoubleGrid(nn.Module):
    """A convolution from a grid to one of twice its sides; the shortcut repeats channels as squares of 2 x 2."""

    def __init__(self, before: int, after: int, shuffle: bool, shortcut: bool = True) -> None:
        super().__init__()
        self.after, self.shuffle, self.shortcut = after, shuffle, shortcut
        self.layer = nn.Conv2d(before, after * 4 if shuffle else after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, after, 2 h, 2 w)."""
        if self.shuffle:
            found = functional.pixel_shuffle(self.layer(x), 2)
        else:
            found = self.layer(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return functional.pixel_shuffle(repeated(x, 4 * self.after), 2) + found if self.shortcut else found


class Shortcut(nn.Module):
    """A 3 x 3 convolution; averaged or repeated channels of its input are added to the first `added` of its output."""

    def __init__(self, before: int, after: int, added: int) -> None:
        super().__init__()
        self.layer, self.added = nn.Conv2d(before, after, 3, padding=1), added

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, after, h, w)."""
        found: Tensor = self.layer(x)
        if not self.added:
            return found
        short = averaged(x, self.added) if self.added < x.shape[1] else repeated(x, self.added)
        return torch.cat([found[:, : self.added] + short, found[:, self.added :]], 1)


def averaged(x: Tensor, channels: int) -> Tensor:
    """Returns the means of groups of neighboring channels, (rows, channels, h, w)."""
    return reduce(x, "n (c g) h w -> n c h w", "mean", c=channels)


def repeated(x: Tensor, channels: int) -> Tensor:
    """Returns x with each channel repeated, (rows, channels, h, w)."""
    return x.repeat_interleave(channels // x.shape[1], 1)


class DeepDown(Network):
    """Blocks and halved grids, from pixels in [0, 1]; then a convolution to a grid, or a dense layer to a vector.

    Images whose sides are no multiples are continued by their last pixels.

    Args:
        shape: (C, H, W). out: (P, n) for vectors, (P, D, h, w) for grids. context: width of the context, 0 for none.
        options: see `DeepOptions`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: DeepOptions) -> None:
        super().__init__(shape, out, context)
        check_image(shape, "diffusers-dc")
        options.check(max(shape[0] + context, out[0] * out[1] if len(out) == 4 else 0))
        widths, first, grids = options.channels, options.first, options.grids(shape[1:])
        self.factor = 1 << (len(widths) - 1)
        inputs = shape[0] + context
        self.stem = (
            HalveGrid(inputs, widths[1], options.shuffle, shortcut=False)
            if first
            else nn.Conv2d(inputs, widths[0], 3, padding=1)
        )
        stages = [list(options.on_grid(grid)) for grid in range(len(widths))]
        for grid, (before, after) in enumerate(pairwise(widths)):
            if grid >= first:
                stages[grid].append(HalveGrid(before, after, options.shuffle))
        self.stages = nn.Sequential(*(nn.Sequential(*layers) for layers in stages))
        self.head: Shortcut | MLP
        if is_on_grid(out[1:], grids[-1]):
            check_grid(out[1:], shape, len(grids), options.grids(shape[1:], 8))
            options.check_shortcut(out[1])
            self.head = Shortcut(widths[-1], out[0] * out[1], out[1] if options.shortcut else 0)
        else:
            self.head = MLP((widths[-1], *grids[-1]), out, context, (), "silu", advice=DENSE_ADVICE)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        height, width = (-side % self.factor for side in x.shape[2:])
        x = functional.pad(2.0 * x - 1.0, (0, width, 0, height), mode="replicate") if height or width else 2.0 * x - 1.0
        features = self.stages(self.stem(append_context_planes(x, c)))
        return cast(Tensor, self.head(features, c) if isinstance(self.head, MLP) else self.head(features))

    def last_layer(self) -> nn.Module:
        """Returns the last convolution, or the MLP's output layer."""
        return self.head.last_layer() if isinstance(self.head, MLP) else self.head.layer


class DeepUp(Network):
    """The mirror of `DeepDown`: from a vector or a grid to pixels in [0, 1] (P, C, H, W), which are not clamped.

    The last layer has one bias for each channel. Arguments as in `DeepDown`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: DeepOptions) -> None:
        super().__init__(shape, out, context)
        check_image(out[1:], "diffusers-dc")
        options.check(max(out[0] * out[1], shape[0] + context if len(shape) == 3 else 0))
        widths, first, grids = options.channels, options.first, options.grids(out[2:])
        self.stem: Shortcut | MLP
        if is_on_grid(shape, grids[-1]):
            check_grid(shape, out[1:], len(grids), options.grids(out[2:], 8))
            options.check_shortcut(shape[0])
            self.stem = Shortcut(shape[0] + context, widths[-1], widths[-1] if options.shortcut and not context else 0)
            self.takes_smaller_grids = True
        else:
            self.stem = MLP(shape, (widths[-1], *grids[-1]), context, (), "silu", advice=DENSE_ADVICE)
        stages = [list(options.on_grid(grid)) for grid in range(len(widths))]
        for grid, (after, before) in enumerate(pairwise(widths)):
            if grid >= first:
                stages[grid].insert(0, DoubleGrid(before, after, options.shuffle))
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in stages)
        self.normalize, self.activation = ChannelNormalization(widths[first]), ACTIVATIONS[options.last_activation]()
        outputs = out[0] * out[1]
        self.head = (
            DoubleGrid(widths[1], outputs, options.shuffle, shortcut=False)
            if first
            else nn.Conv2d(widths[0], outputs, 3, padding=1)
        )

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        x = self.stem(x, c) if isinstance(self.stem, MLP) else self.stem(append_context_planes(x, c))
        for stage in reversed(self.stages):
            x = stage(x)
        pixels = (self.head(self.activation(self.normalize(x))) + 1.0) / 2.0
        out: Tensor = rearrange(pixels[..., : self.out[2], : self.out[3]], "n (p c) h w -> n p c h w", p=self.out[0])
        return out

    def last_layer(self) -> nn.Module:
        """Returns the last convolution."""
        return self.head.layer if isinstance(self.head, DoubleGrid) else self.head

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the bias of each channel to the mean of `output` (*out) over its positions."""
        layer = cast(nn.Conv2d, self.last_layer())
        with torch.no_grad():
            means = 2.0 * output.mean((-2, -1)).flatten() - 1.0
            assert layer.bias is not None
            layer.bias.copy_(means.repeat_interleave(len(layer.bias) // len(means)))
