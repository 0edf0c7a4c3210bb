"""The `diffusers-kl` backbone: networks whose weights the image autoencoders of diffusers have."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.errors import ConfigError
from vaezoo.networks import Activation
from vaezoo.networks.convolutional import MOST_STAGES, Width, check_image
from vaezoo.networks.diffusers_kl import DiffusersDown, DiffusersUp
from vaezoo.networks.resnet import ResnetOptions

Blocks = Annotated[int, Meta(ge=1, le=16)]
Flags = Annotated[tuple[bool, ...], Meta(max_length=MOST_STAGES)]


def diffusers_kl(
    *,
    channels: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=MOST_STAGES)] = (32, 64, 128),
    blocks: Blocks = 1,
    up_channels: Annotated[tuple[Width, ...], Meta(max_length=MOST_STAGES)] = (),
    up_blocks: Blocks | None = None,
    attention: bool = True,
    down_attention: Flags = (),
    up_attention: Flags = (),
    groups: Annotated[int, Meta(ge=1, le=8192)] = 32,
    activation: Activation = "silu",
    latent_channels: Annotated[int, Meta(ge=0, le=8192)] = 0,
    quant_convolution: bool = True,
    post_quant_convolution: bool = True,
    mask_encoder: bool = False,
    checkpointing: bool = False,
) -> Backbone:
    """Returns the networks of `AutoencoderKL`, `AsymmetricAutoencoderKL` and `VQModel` of the package diffusers.

    They are those of `resnet` for pixels in [-1, 1], as in the files of diffusers, with 1 x 1 convolutions beside the
    latents; pixels in [0, 1] are scaled. Two outputs of the encoder are mean and log variance, which is clamped to
    [-30, 20] and returned as log σ. `vaezoo.load` chooses the options by the config of such a file; a model of this
    backbone can be exported to one.

    Args:
        channels: width of each grid. The first grid has the size of the image, each further entry halves it, rounded
            up.
        blocks: residual blocks of the encoder on each grid, besides two on the last one; the decoder has one more on
            each.
        up_channels: widths of the decoder, the largest grid first; none: those of the encoder.
        up_blocks: the number that the decoder has one more of; none: that of the encoder.
        attention: whether self-attention over the positions of the last grid lies between its two blocks.
        down_attention: for each grid, whether self-attention follows each block of the encoder; none: on no grid.
        up_attention: the same of the decoder, the largest grid first.
        groups: of each normalization; they divide each width.
        activation: non-linearity; before the last layer it is always silu.
        latent_channels: between the 3 x 3 and the 1 x 1 convolutions beside the latents; 0: those of the latents.
        quant_convolution: whether the encoder ends with a 1 x 1 convolution.
        post_quant_convolution: whether the decoder begins with a 1 x 1 convolution.
        mask_encoder: whether the decoder keeps weights for filling in masked images, which it does not use.
        checkpointing: whether activations inside blocks are computed twice instead of stored, which saves memory.
    """
    shared = ResnetOptions(
        channels=channels, blocks=blocks, attention=attention, patch=1, upsampling="nearest", dense=(),
        activation=activation, checkpointing=checkpointing, groups=groups, last_activation="silu",
    )  # fmt: skip
    down = replace(shared, grid_attention=down_attention)
    up = replace(shared, channels=up_channels or channels, blocks=up_blocks or blocks, grid_attention=up_attention)
    check_form(down, up)
    if latent_channels and not (quant_convolution and post_quant_convolution):
        raise ConfigError(f"Got latent_channels = {latent_channels}; expected both 1 x 1 convolutions with it.")

    def grid(shape: Sequence[int], channels: int) -> tuple[int, ...]:
        check_image(shape, "diffusers-kl")
        return (channels, *down.grids(shape[1:])[-1])

    return Backbone(
        down=lambda shape, out, context: DiffusersDown(shape, out, context, down, latent_channels, quant_convolution),
        up=lambda shape, out, context: DiffusersUp(
            shape, out, context, up, latent_channels, post_quant_convolution, mask_encoder
        ),
        grid=grid,
    )


def check_form(down: ResnetOptions, up: ResnetOptions) -> None:
    """Raises ConfigError unless both have a width and a flag for each grid, and groups that divide the widths."""
    count = len(down.channels)
    for options in (down, up):
        for what, given in (("widths", options.channels), ("flags of attention", options.grid_attention)):
            if given and len(given) != count:
                raise ConfigError(f"Got {len(given)} {what} for {count} grids of diffusers-kl; expected one for each.")
        odd = [width for width in options.channels if width % options.groups]
        if odd:
            raise ConfigError(
                f"Got groups = {options.groups} and a width of {odd[0]}; expected groups that divide each width of "
                "diffusers-kl."
            )
