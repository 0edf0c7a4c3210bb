"""The `resnet` backbone: residual blocks for images of any size."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.networks import Activation
from vaezoo.networks.convolutional import MOST_STAGES, Width, check_image
from vaezoo.networks.resnet import ResnetDown, ResnetOptions, ResnetUp, ResnetUpsampling


def resnet(
    *,
    channels: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=MOST_STAGES)] = (32, 64, 128),
    blocks: Annotated[int, Meta(ge=1, le=16)] = 1,
    attention: bool = False,
    patch: Literal[1, 2, 4, 8] = 1,
    upsampling: ResnetUpsampling = "nearest",
    dense: Annotated[tuple[Width, ...], Meta(max_length=8)] = (),
    activation: Activation = "silu",
    checkpointing: bool = False,
) -> Backbone:
    """Returns residual networks with group normalization, for images of any size.

    The form is that of the autoencoders of latent diffusion (Rombach et al., 2022, https://arxiv.org/abs/2112.10752):
    `channels=(128, 256, 512, 512), blocks=2, attention=True` reduces each side by 8.

    Args:
        channels: width of each grid. The first grid has the size of the image divided by `patch`, each further entry
            halves it, rounded up.
        blocks: residual blocks of the encoder on each grid, besides two on the last one; the decoder has one more on
            each.
        attention: whether self-attention over the positions of the last grid lies between its two blocks.
        patch: side of the squares of pixels that the first layer takes as channels (pixel-unshuffle); 2 needs a quarter
            of the operations.
        upsampling: how the decoder doubles a grid: "nearest" neighbors and a convolution, or "pixel-shuffle" (Shi et
            al., 2016, https://arxiv.org/abs/1609.05158).
        dense: hidden widths between the last grid and a vector; a grid as latent has no dense layers.
        activation: non-linearity.
        checkpointing: whether activations inside blocks are computed twice instead of stored, which saves memory (Chen
            et al., 2016, https://arxiv.org/abs/1604.06174).
    """
    options = ResnetOptions(
        channels=channels, blocks=blocks, attention=attention, patch=patch, upsampling=upsampling, dense=dense,
        activation=activation, checkpointing=checkpointing,
    )  # fmt: skip

    def grid(shape: Sequence[int], channels: int) -> tuple[int, ...]:
        check_image(shape, "resnet")
        return (channels, *options.grids(shape[1:])[-1])

    return Backbone(
        down=lambda shape, out, context: ResnetDown(shape, out, context, options),
        up=lambda shape, out, context: ResnetUp(shape, out, context, options),
        grid=grid,
    )
