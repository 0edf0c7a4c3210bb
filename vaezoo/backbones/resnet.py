"""The `resnet` backbone: residual blocks for images of any size."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.networks import Activation
from vaezoo.networks.convolutional import MOST_STAGES, Width, check_image
from vaezoo.networks.resnet import ResnetDown, ResnetOptions, ResnetUp, Upsampling


def resnet(
    *,
    channels: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=MOST_STAGES)] = (32, 64, 128),
    blocks: Annotated[int, Meta(ge=1, le=16)] = 1,
    attention: bool = False,
    patch: Literal[1, 2, 4, 8] = 1,
    upsampling: Upsampling = "nearest",
    dense: Annotated[tuple[Width, ...], Meta(max_length=8)] = (),
    activation: Activation = "silu",
    checkpointing: bool = False,
) -> Backbone:
    """Returns residual networks with group normalization, for images of any size.

    Blocks lie on each grid; the first grid has the size of the image divided by `patch`, and each further entry of
    `channels` halves it, rounded up. The encoder has `blocks` on each grid and two on the last one, the decoder one
    more on each. With `attention`, self-attention over the positions of the last grid lies between these two. With
    `patch` = 2 the first layer takes squares of 2 x 2 pixels as channels (pixel-unshuffle), a quarter of the cost.
    `upsampling` is "nearest", followed by a convolution, or "pixel-shuffle" (Shi et al., 2016,
    https://arxiv.org/abs/1609.05158). Vectors pass through hidden layers `dense`; grids do not. `checkpointing` saves
    memory: activations inside blocks are computed twice (Chen et al., 2016, https://arxiv.org/abs/1604.06174).

    The form is that of the autoencoders of latent diffusion (Rombach et al., 2022, https://arxiv.org/abs/2112.10752):
    `channels=(128, 256, 512, 512), blocks=2, attention=True` reduces each side by 8.
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
