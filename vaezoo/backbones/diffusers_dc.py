"""The `diffusers-dc` backbone: networks whose weights the class `AutoencoderDC` of diffusers has."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.errors import ConfigError
from vaezoo.networks import Activation
from vaezoo.networks.convolutional import MOST_STAGES, Width, check_image
from vaezoo.networks.diffusers_dc import DeepDown, DeepOptions, DeepUp, Normalization

Blocks = Annotated[tuple[Annotated[int, Meta(ge=0, le=64)], ...], Meta(min_length=1, max_length=MOST_STAGES)]
Flags = Annotated[tuple[bool, ...], Meta(max_length=MOST_STAGES)]
Kernels = Annotated[tuple[Annotated[int, Meta(ge=1, le=15)], ...], Meta(max_length=4)]
Scales = Annotated[tuple[Kernels, ...], Meta(max_length=MOST_STAGES)]
RMS: tuple[Normalization, ...] = ("rms",)
SILU: tuple[Activation, ...] = ("silu",)


def diffusers_dc(
    *,
    channels: Annotated[tuple[Width, ...], Meta(min_length=2, max_length=MOST_STAGES)] = (32, 64, 128),
    blocks: Blocks = (1, 1, 1),
    attention: Flags = (),
    scales: Scales = (),
    up_channels: Annotated[tuple[Width, ...], Meta(max_length=MOST_STAGES)] | None = None,
    up_blocks: Blocks | None = None,
    up_attention: Flags | None = None,
    up_scales: Scales | None = None,
    head_width: Annotated[int, Meta(ge=1, le=8192)] = 32,
    down_shuffle: bool = True,
    up_shuffle: bool = True,
    down_shortcut: bool = True,
    up_shortcut: bool = True,
    normalizations: Annotated[tuple[Normalization, ...], Meta(max_length=MOST_STAGES)] = (),
    activations: Annotated[tuple[Activation, ...], Meta(max_length=MOST_STAGES)] = (),
    last_activation: Activation = "relu",
) -> Backbone:
    """Returns the networks of `AutoencoderDC` of the package diffusers, for high compression of images of any size.

    Changes of the grid have shortcuts without weights, and blocks on small grids may have attention of linear cost.
    Pixels in [0, 1] are scaled to [-1, 1]. `vaezoo.load` chooses the options by the config of such a file; a model of
    this backbone can be exported to one.

    Args:
        channels: width of each grid. The first grid has the size of the image, each further entry halves it, rounded
            up. Four times a width is a multiple of the next one.
        blocks: number of blocks of the encoder on each grid; 0 for the first one alone, which then has no channels of
            its own.
        attention: for each grid, whether the blocks of the encoder have attention in place of two convolutions; none:
            on no grid.
        scales: for each grid, the odd sizes of convolutions of queries, keys and values, besides those of single
            positions; none: no such convolutions.
        up_channels: widths of the decoder, the largest grid first; none: those of the encoder.
        up_blocks: numbers of blocks of the decoder, the largest grid first; none: those of the encoder.
        up_attention: the attention of the decoder, the largest grid first; none: that of the encoder.
        up_scales: the scales of the decoder, the largest grid first; none: those of the encoder.
        head_width: channels of each head of attention.
        down_shuffle: whether grids are halved by arranging squares as channels; otherwise by strides.
        up_shuffle: whether grids are doubled by arranging channels as squares; otherwise by repetition.
        down_shortcut: whether averaged channels are added to the latents, whose number divides the last width.
        up_shortcut: whether repeated channels of the latents are added to the decoder's first features.
        normalizations: of the decoder's blocks on each grid, rms or batch, whose means and variances are constants;
            none: rms.
        activations: non-linearities of the decoder's blocks with convolutions on each grid; none: silu.
        last_activation: non-linearity before the decoder's last layer.
    """
    count = len(channels)
    down = DeepOptions(
        channels=channels, blocks=blocks, attention=attention or (False,) * count, scales=scales or ((),) * count,
        head_width=head_width, shuffle=down_shuffle, shortcut=down_shortcut, normalizations=RMS * count,
        activations=SILU * count,
    )  # fmt: skip
    up = replace(
        down, channels=up_channels or channels, blocks=up_blocks or blocks,
        attention=down.attention if up_attention is None else up_attention or (False,) * count,
        scales=down.scales if up_scales is None else up_scales or ((),) * count, shuffle=up_shuffle,
        shortcut=up_shortcut, normalizations=normalizations or RMS * count,
        activations=activations or SILU * count, last_activation=last_activation,
    )  # fmt: skip
    check_form(down, count)
    check_form(up, count)

    return Backbone(
        down=lambda shape, out, context: DeepDown(shape, out, context, down),
        up=lambda shape, out, context: DeepUp(shape, out, context, up),
        grid=lambda shape, channels: grid_of(down, shape, channels),
    )


def grid_of(options: DeepOptions, shape: Sequence[int], channels: int) -> tuple[int, ...]:
    """Returns the shape of a latent on the last grid of images (C, H, W)."""
    check_image(shape, "diffusers-dc")
    return (channels, *options.grids(shape[1:])[-1])


def check_form(options: DeepOptions, count: int) -> None:
    """Raises ConfigError unless each list has an entry for each grid, and widths and scales fit each other."""
    for what in ("channels", "blocks", "attention", "scales", "normalizations", "activations"):
        if len(getattr(options, what)) != count:
            raise ConfigError(
                f"Got {len(getattr(options, what))} entries in {what} for {count} grids of diffusers-dc; expected one "
                "for each."
            )
    if 0 in options.blocks[1:]:
        raise ConfigError(f"Got blocks = {list(options.blocks)}; expected at least 1 on each grid but the first.")
    widths = list(options.channels)
    for before, after in pairwise(widths[options.first :]):
        if 4 * before % after or 4 * after % before:
            raise ConfigError(
                f"Got widths {before} and {after} on neighboring grids of diffusers-dc; expected four times the one to "
                "be a multiple of the other."
            )
    if options.shuffle and (odd := [width for width in widths[1:] if width % 4]):
        raise ConfigError(f"Got a width of {odd[0]} with squares as channels; expected multiples of 4.")
    if even := [size for sizes in options.scales for size in sizes if size % 2 == 0]:
        raise ConfigError(f"Got a scale of {even[0]}; expected odd sizes.")
    narrow = [width for width, attends in zip(widths, options.attention, strict=True) if attends]
    if narrow and min(narrow) < options.head_width:
        raise ConfigError(
            f"Got head_width = {options.head_width} for attention of {min(narrow)} channels; expected at most as many."
        )
