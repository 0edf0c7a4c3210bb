"""The `conv` backbone: strided convolutions for images of any size."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.networks import Activation, ConvDown, ConvUp
from vaezoo.networks.convolutional import (
    MOST_STAGES,
    ConvOptions,
    Upsampling,
    Width,
    check_image,
    grid_sizes,
    with_stages_for,
)

DENSE_GRID = 32  # longest side of the grid before dense layers, by default: bounds their number of weights


def conv(
    *,
    channels: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=MOST_STAGES)] = (32, 64),
    dense: Annotated[tuple[Width, ...], Meta(max_length=8)] = (256,),
    blocks: Annotated[int, Meta(ge=0, le=16)] = 0,
    kernel: Literal[3, 4, 5, 7] = 3,
    activation: Activation = "silu",
    upsampling: Upsampling = "transposed",
) -> Backbone:
    """Returns convolutions for images of any size: each entry of `channels` halves the grid, rounded up.

    Args:
        channels: width of each grid, the largest grid first. By default there are further entries of 64 for a vector
            latent of a large image, so that the dense layers see a grid of at most 32 x 32.
        dense: hidden widths between the last grid and a vector; a grid as latent has no dense layers.
        blocks: residual blocks on the last grid, where they are cheap and have large receptive fields.
        kernel: size of the convolutions.
        activation: non-linearity.
        upsampling: how the decoder doubles a grid: "transposed" convolutions, whose uneven overlaps can give a
            checkerboard; "nearest" neighbors and a convolution, which gives none (Odena et al., 2016,
            https://doi.org/10.23915/distill.00003) and takes up to four times the operations; or "pixel-shuffle" of a
            convolution with four times the channels, which starts without one (Aitken et al., 2017,
            https://arxiv.org/abs/1707.02937).
    """
    options = ConvOptions(
        channels=channels, dense=dense, blocks=blocks, kernel=kernel, activation=activation, upsampling=upsampling
    )

    def grid(shape: Sequence[int], channels: int) -> tuple[int, ...]:
        check_image(shape)
        return (channels, *grid_sizes(shape[1:], len(options.channels))[-1])

    return Backbone(
        down=lambda shape, out, context: ConvDown(shape, out, context, options),
        up=lambda shape, out, context: ConvUp(shape, out, context, options),
        grid=grid,
        defaults=lambda shape, latent: {"channels": with_stages_for(channels, shape, latent, DENSE_GRID, axes=2)},
    )
