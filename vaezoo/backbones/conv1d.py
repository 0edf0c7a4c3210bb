"""The `conv1d` backbone: strided and dilated convolutions for series of any length."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.networks import Activation
from vaezoo.networks.convolutional import MOST_STAGES, Width, grid_sizes, with_stages_for
from vaezoo.networks.series import SeriesDown, SeriesOptions, SeriesUp, check_series

DENSE_LENGTH = 64  # longest grid before dense layers, by default: bounds their number of weights


def conv1d(
    *,
    channels: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=MOST_STAGES)] = (32, 64, 64),
    blocks: Annotated[int, Meta(ge=0, le=8)] = 1,
    kernel: Literal[3, 5, 7, 9, 15] = 5,
    dense: Annotated[tuple[Width, ...], Meta(max_length=8)] = (256,),
    activation: Activation = "silu",
) -> Backbone:
    """Returns convolutions along time for series (C, T) of any length: each entry of `channels` halves it, rounded up.

    With a likelihood that takes gaps, such as `gaussian` with `gaps = true`, features are multiplied by the mask of the
    observed positions after each layer, so that padded ends and gaps have no effect on the encoder. There is no
    normalization over positions. The decoder gives values at all T positions.

    Args:
        channels: width of each grid, the longest grid first. By default there are further entries of 64 for a vector
            latent of a long series, so that the dense layers see a grid of at most 64 positions.
        blocks: residual blocks on each grid, with the dilations 1, 2, 4, ….
        kernel: size of the convolutions.
        dense: hidden widths between the last grid and a vector; a grid as latent has no dense layers.
        activation: non-linearity.
    """
    options = SeriesOptions(channels=channels, blocks=blocks, kernel=kernel, dense=dense, activation=activation)

    def grid(shape: Sequence[int], channels: int) -> tuple[int, ...]:
        check_series(shape)
        return (channels, *grid_sizes(shape[1:], len(options.channels))[-1])

    return Backbone(
        down=lambda shape, out, context: SeriesDown(shape, out, context, options),
        up=lambda shape, out, context: SeriesUp(shape, out, context, options),
        grid=grid,
        defaults=lambda shape, latent: {"channels": with_stages_for(channels, shape, latent, DENSE_LENGTH, axes=1)},
    )
