"""The `conv` backbone: strided convolutions for images of any size."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.networks import Activation, ConvDown, ConvUp
from vaezoo.networks.convolutional import MOST_STAGES, ConvOptions, Width, check_image, grid_sizes

DENSE_GRID = 32  # longest side of the grid before dense layers, by default: bounds their number of weights


def conv(
    *,
    channels: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=MOST_STAGES)] = (32, 64),
    dense: Annotated[tuple[Width, ...], Meta(max_length=8)] = (256,),
    blocks: Annotated[int, Meta(ge=0, le=16)] = 0,
    kernel: Literal[3, 4, 5, 7] = 3,
    activation: Activation = "silu",
) -> Backbone:
    """Returns convolutions for images of any size: each entry of `channels` halves the grid, rounded up.

    Vectors pass through hidden layers `dense`; grids do not. `blocks` residual blocks lie on the last grid, where
    they are cheap and have large receptive fields. By default `channels` has further entries of 64 for a vector latent
    of a large image, so that the dense layers see a grid of at most 32 x 32.
    """
    options = ConvOptions(channels=channels, dense=dense, blocks=blocks, kernel=kernel, activation=activation)

    def grid(shape: Sequence[int], channels: int) -> tuple[int, ...]:
        check_image(shape)
        return (channels, *grid_sizes(shape[1:], len(options.channels))[-1])

    return Backbone(
        down=lambda shape, out, context: ConvDown(shape, out, context, options),
        up=lambda shape, out, context: ConvUp(shape, out, context, options),
        grid=grid,
        defaults=lambda shape, latent: {"channels": channels_for(shape, latent, channels)},
    )


def channels_for(shape: Sequence[int], latent: Sequence[int], channels: Sequence[int]) -> tuple[int, ...]:
    """Returns `channels`, for a vector latent with the last one repeated until dense layers see a small grid."""
    if len(shape) != 3 or len(latent) != 1:
        return tuple(channels)
    grids = grid_sizes(shape[1:], MOST_STAGES)
    stages = next((depth for depth, grid in enumerate(grids) if max(grid) <= DENSE_GRID), MOST_STAGES)
    return (*channels, *[channels[-1]] * (stages - len(channels)))
