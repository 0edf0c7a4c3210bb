"""Convolutional networks for images of any size and any number of channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final, Literal, cast

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional

from vaezoo.errors import ShapeError
from vaezoo.networks.network import ACTIVATIONS, Activation, Network, check_weights
from vaezoo.networks.perceptron import MLP

MOST_STAGES = 8
DENSE_ADVICE = "Add entries to channels, each of which halves the grid, or choose smaller widths in dense."

Width = Annotated[int, Meta(ge=1, le=8192)]
Upsampling = Literal["transposed", "nearest", "pixel-shuffle"]
CONVOLUTIONS: Final[dict[int, type[nn.Conv1d | nn.Conv2d]]] = {1: nn.Conv1d, 2: nn.Conv2d}
"""The convolutions of grids with so many axes."""


@dataclass(frozen=True, kw_only=True)
class ConvOptions:
    """Options that `ConvDown` and `ConvUp` share.

    `channels`: width of each stage; each stage halves the grid. `dense`: hidden widths between the last grid and a
    vector. `blocks`: residual blocks on the last grid. `kernel`: size of the convolutions. `activation`: the
    non-linearity. `upsampling`: how `ConvUp` doubles grids.
    """

    channels: Sequence[int]
    dense: Sequence[int]
    blocks: int
    kernel: int
    activation: Activation
    upsampling: Upsampling = "transposed"

    @property
    def odd_kernel(self) -> int:
        """Size of the convolutions with stride 1: 3 where `kernel` is 4."""
        return self.kernel - 1 + self.kernel % 2

    def make_blocks(self) -> list[nn.Module]:
        """Returns the residual blocks."""
        return [ResidualBlock(self.channels[-1], self.odd_kernel, self.activation) for _ in range(self.blocks)]

    def upsample(self, before: int, after: int, size: tuple[int, ...], *, bias: bool) -> nn.Module:
        """Returns a layer from `before` channels to `after` on the grid `size`, twice the previous one."""
        if self.upsampling != "transposed":
            return Double(before, after, size, self.upsampling, self.odd_kernel, bias=bias)
        odd = [side % 2 for side in size]
        padding = [(self.kernel - 1 + each) // 2 for each in odd]
        # A side of n becomes 2n - 1 where the larger grid is odd, else 2n.
        extra = [2 * each + 2 - self.kernel - parity for each, parity in zip(padding, odd, strict=True)]
        return nn.ConvTranspose2d(
            before, after, self.kernel, 2, (padding[0], padding[1]), (extra[0], extra[1]), bias=bias
        )

    def check_convolutions(self, widths: Sequence[int], factor: int = 1) -> None:
        """Validates the number of weights of convolutions between `widths`, and of the residual blocks.

        Each convolution has `factor` times as many channels as the next width.
        """
        blocks, kernel = self.blocks * self.channels[-1] ** 2 * (self.kernel**2 + 1), factor * self.kernel**2
        check_weights("convolutional network", [blocks, *(a * b * kernel for a, b in pairwise(widths))])

    def mlp(self, shape: Sequence[int], out: Sequence[int], context: int, hidden: Sequence[int]) -> MLP:
        """Returns the dense layers between a grid and a vector."""
        return MLP(shape, out, context, hidden, self.activation, advice=DENSE_ADVICE)


class ResidualBlock(nn.Module):
    """A residual block: activation, convolution, activation, convolution of kernel 1.

    Args:
        channels: of input and output.
        kernel: size of the first convolution, odd.
        activation: the non-linearity.
        axes: of the grid, 2 for images and 1 for series.
        dilation: distance of the elements of the first kernel.
    """

    def __init__(
        self, channels: int, kernel: int, activation: Activation, axes: Literal[1, 2] = 2, dilation: int = 1
    ) -> None:
        super().__init__()
        act, conv = ACTIVATIONS[activation], CONVOLUTIONS[axes]
        wide = conv(channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.layers = nn.Sequential(act(), wide, act(), conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, channels, *grid)."""
        out: Tensor = x + self.layers(x)
        return out


class Double(nn.Module):
    """An upsampling to twice a grid, cropped to `size`, (H, W) or (T,) with "nearest" alone, and a convolution.

    "nearest" repeats each position 2 x 2 before the convolution. "pixel-shuffle" arranges channels of the convolution
    as squares of 2 x 2; the kernels of such a square start equal (Aitken et al., 2017,
    https://arxiv.org/abs/1707.02937). A grid of equal features then gives equal outputs, up to the borders: with
    "nearest" for all weights, with "pixel-shuffle" for the initial ones.
    """

    def __init__(
        self, before: int, after: int, size: tuple[int, ...], upsampling: Upsampling, kernel: int = 3, bias: bool = True
    ) -> None:
        super().__init__()
        self.size, self.shuffle = size, upsampling == "pixel-shuffle"
        conv = CONVOLUTIONS[len(size)]
        self.layer = conv(before, after * (4 if self.shuffle else 1), kernel, padding=kernel // 2, bias=bias)
        if self.shuffle:
            with torch.no_grad():
                for parameter in self.layer.parameters():
                    parameter.copy_(parameter[::4].repeat_interleave(4, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, after, *size)."""
        if self.shuffle:
            x = functional.pixel_shuffle(self.layer(x), 2)
        else:
            x = cast(Tensor, self.layer(functional.interpolate(x, scale_factor=2.0, mode="nearest")))
        for axis, side in enumerate(self.size, 2):
            x = x.narrow(axis, 0, min(side, x.shape[axis]))  # smaller grids stay as they are
        return x


class GridsDown(Network):
    """Base of networks that halve grids: `stages`, then a `head` to a grid (a convolution) or a vector (an MLP)."""

    stages: nn.Sequential
    head: nn.Module

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        return self.last(self.stages(append_context_planes(x, c)), c)

    def last(self, features: Tensor, c: Tensor | None) -> Tensor:
        """Returns the output (rows, *out) of the head for features (rows, channels, *grid)."""
        out: Tensor = self.head(features, c) if isinstance(self.head, MLP) else self.head(features)
        return out

    def last_layer(self) -> nn.Module:
        """Returns the last convolution, or the MLP's output layer."""
        return self.head.last_layer() if isinstance(self.head, MLP) else self.head


class GridsUp(Network):
    """Base of networks that double grids: a `stem` from a grid (a convolution) or a vector (an MLP), and `stages`.

    A learned `offset` is added to each element of the output, not one bias to each channel: it can start at the mean of
    data.
    """

    stem: nn.Module
    stages: nn.Sequential
    offset: nn.Parameter

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        features = self.stem(x, c) if isinstance(self.stem, MLP) else self.stem(append_context_planes(x, c))
        out: Tensor = self.stages(features).unflatten(1, (self.out[0], self.out[1])) + self.offset
        return out

    def last_layer(self) -> nn.Module:
        """Returns the last layer of `stages`."""
        return self.stages[-1]

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the offset to `output` (*out)."""
        with torch.no_grad():
            self.offset.copy_(output)


class ConvDown(GridsDown):
    """Strided convolutions, each halving the grid; then a small MLP to a vector, or a 1 x 1 convolution to a grid.

    Args:
        shape: (C, H, W). out: (P, n) for vectors, (P, D, h, w) for grids. context: width of the context, 0 for none.
        options: see `ConvOptions`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: ConvOptions) -> None:
        super().__init__(shape, out, context)
        check_image(shape)
        widths, kernel = [shape[0] + context, *options.channels], options.kernel
        options.check_convolutions(widths)
        grids = grid_sizes(shape[1:], len(options.channels))
        layers: list[nn.Module] = []
        for (before, after), (height, width) in zip(pairwise(widths), grids, strict=False):
            if kernel % 2 == 0 and (height % 2 or width % 2):
                layers.append(nn.ZeroPad2d((0, width % 2, 0, height % 2)))  # so that odd sides are rounded up
            padding = (kernel - 1) // 2
            layers += [nn.Conv2d(before, after, kernel, stride=2, padding=padding), ACTIVATIONS[options.activation]()]
        layers[-1:-1] = options.make_blocks()
        self.stages = nn.Sequential(*layers)
        grid = (options.channels[-1], *grids[-1])
        if is_on_grid(out[1:], grid[1:]):
            check_grid(out[1:], shape, len(options.channels), grid_sizes(shape[1:], MOST_STAGES)[1:])
            check_weights("convolutional head", [grid[0] * out[0] * out[1]])
            self.head = nn.Conv2d(grid[0], out[0] * out[1], 1)
        else:
            self.head = options.mlp(grid, out, context, options.dense)


class ConvUp(GridsUp):
    """The mirror of `ConvDown`: from a vector (n,) or a grid (D, h, w) to (P, C, H, W), with exactly the same grids.

    Arguments as in `ConvDown`.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int, options: ConvOptions) -> None:
        super().__init__(shape, out, context)
        check_image(out[1:])
        stages = len(options.channels)
        grids = grid_sizes(out[2:], stages)[::-1]
        grid = (options.channels[-1], *grids[0])
        if is_on_grid(shape, grid[1:]):
            check_grid(shape, out[1:], stages, grid_sizes(out[2:], MOST_STAGES)[1:])
            check_weights("convolutional stem", [grid[0] * (shape[0] + context)])
            self.stem = nn.Conv2d(shape[0] + context, grid[0], 1)
        else:
            self.stem = options.mlp(shape, grid, context, options.dense[::-1])
        widths = [*options.channels[::-1], out[0] * out[1]]
        options.check_convolutions(widths, 4 if options.upsampling == "pixel-shuffle" else 1)
        layers = options.make_blocks()
        for stage, (before, after) in enumerate(pairwise(widths), 1):
            layers.append(ACTIVATIONS[options.activation]())
            layers.append(options.upsample(before, after, grids[stage], bias=stage < stages))
        self.stages = nn.Sequential(*layers)
        self.offset = nn.Parameter(torch.zeros(*out))


def append_context_planes(x: Tensor, c: Tensor | None) -> Tensor:
    """Returns x (rows, C, *grid) with the context (rows, c) appended as constant planes, (rows, C + c, *grid)."""
    if c is None:
        return x
    planes = c.to(x.dtype).reshape(*c.shape, *[1] * (x.dim() - 2))
    return torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1)


def grid_sizes(size: Sequence[int], stages: int) -> list[tuple[int, ...]]:
    """Returns the grids from `size`, (H, W) or (T,), down, each half of the previous one, rounded up."""
    grids = [tuple(size)]
    for _ in range(stages):
        grids.append(tuple((side + 1) // 2 for side in grids[-1]))
    return grids


def with_stages_for(
    channels: Sequence[int], shape: Sequence[int], latent: Sequence[int], longest: int, *, axes: int
) -> tuple[int, ...]:
    """Returns `channels`, for a vector latent with the last one repeated until no side of the grid is over `longest`.

    `shape` is that of x, a grid of so many `axes`; any other one leaves `channels` as they are.
    """
    if len(shape) != 1 + axes or len(latent) != 1:
        return tuple(channels)
    grids = grid_sizes(shape[1:], MOST_STAGES)
    stages = next((depth for depth, grid in enumerate(grids) if max(grid) <= longest), MOST_STAGES)
    return (*channels, *[channels[-1]] * (stages - len(channels)))


def is_on_grid(event: Sequence[int], grid: Sequence[int]) -> bool:
    """Returns whether a latent (D, h, w) is mapped from the last grid by a 1 x 1 convolution, not by dense layers.

    Dense layers map to vectors and to a single position (D, 1, 1), unless that is the grid.
    """
    return len(event) == 3 and (tuple(event[1:]) != (1, 1) or tuple(grid) == (1, 1))


def check_image(shape: Sequence[int], backbone: str = "conv") -> None:
    """Raises ShapeError unless `shape` is (channels, height, width)."""
    check_axes(shape, backbone, ("channels", "height", "width"))


def check_axes(shape: Sequence[int], backbone: str, axes: Sequence[str]) -> None:
    """Raises ShapeError unless `shape` has these axes."""
    if len(shape) != len(axes):
        single = f"Leave out the batch dimension: shape={tuple(shape[1:])}."
        remedy = single if len(shape) == 4 and len(axes) == 3 else "Use backbone 'mlp'."
        raise ShapeError(f"Got shape {tuple(shape)}; the {backbone} backbone expected ({', '.join(axes)}). {remedy}")


def check_grid(event: Sequence[int], shape: Sequence[int], widths: int, grids: Sequence[tuple[int, ...]]) -> None:
    """Raises ShapeError unless a latent (channels, h, w) has the last grid of an image of this shape.

    Args:
        event: the latent.
        shape: that of the image.
        widths: number of entries of `channels`.
        grids: grids that 1, 2, … entries reach.
    """
    if tuple(event[1:]) != grids[widths - 1]:
        sizes = ["", *("x".join(map(str, grid)) for grid in grids)]
        reach = ", ".join(
            f"{size} with {depth}" for depth, size in enumerate(sizes) if size != sizes[max(0, depth - 1)]
        )
        raise ShapeError(
            f"Got latent {list(event)}; the backbone with {widths} widths in channels brings {tuple(shape)} to a "
            f"grid of {sizes[widths]}. Reachable grids: {reach} widths in channels."
        )
