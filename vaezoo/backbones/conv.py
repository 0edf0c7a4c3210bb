"""The `conv` backbone: strided convolutions for images of any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.networks import ConvDown, ConvUp
from vaezoo.networks.convolutional import Width, check_image, grid_sizes
from vaezoo.networks.network import Activation, Network

__all__ = ["conv"]


def conv(
    *,
    channels: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=8)] = (32, 64),
    dense: Annotated[tuple[Width, ...], Meta(max_length=8)] = (256,),
    blocks: Annotated[int, Meta(ge=0, le=16)] = 0,
    kernel: Literal[3, 5, 7] = 3,
    activation: Activation = "silu",
) -> Backbone:
    """Convolutions for images of any size: each entry of `channels` halves the grid, rounded up.

    Vectors pass through hidden layers `dense`; grids do not. `blocks` residual blocks stand on the coarsest
    grid, where they are cheap and see far.
    """
    widths = list(channels)
    hidden = list(dense)

    def down(shape: Sequence[int], out: Sequence[int], context: int) -> Network:
        return ConvDown(
            shape, out, context, channels=widths, dense=hidden, blocks=blocks, kernel=kernel, activation=activation
        )

    def up(shape: Sequence[int], out: Sequence[int], context: int) -> Network:
        return ConvUp(
            shape, out, context, channels=widths, dense=hidden, blocks=blocks, kernel=kernel, activation=activation
        )

    def grid(shape: Sequence[int], channels: int) -> tuple[int, ...]:
        check_image(shape)
        return (channels, *grid_sizes(shape[1:], len(widths))[-1])

    return Backbone(down=down, up=up, grid=grid)
