"""The `diffusers-tiny` backbone: networks whose weights the class `AutoencoderTiny` of diffusers has."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.errors import ConfigError
from vaezoo.networks import Activation
from vaezoo.networks.convolutional import MOST_STAGES, Width, check_image
from vaezoo.networks.diffusers_tiny import TinyDown, TinyOptions, TinyUp

Numbers = Annotated[tuple[Annotated[int, Meta(ge=0, le=16)], ...], Meta(min_length=1, max_length=MOST_STAGES)]


def diffusers_tiny(
    *,
    width: Width = 64,
    up_width: Annotated[int, Meta(ge=0, le=8192)] = 0,
    blocks: Numbers = (1, 3, 3, 3),
    up_blocks: Numbers = (1, 3, 3, 3),
    activation: Activation = "relu",
) -> Backbone:
    r"""Returns the networks of `AutoencoderTiny` of the package diffusers, for images of any size.

    They have no normalization; the decoder clamps its input by $3 \tanh(z / 3)$. `vaezoo.load` chooses the options by
    the config of such a file; a model of this backbone can be exported to one.

    Args:
        width: channels of all layers of the encoder.
        up_width: those of the decoder; 0: as of the encoder.
        blocks: number of blocks of the encoder on each grid. The first grid has the size of the image, each further
            entry halves it, rounded up.
        up_blocks: those of the decoder, the largest grid first.
        activation: non-linearity; the sum of a block and its input always goes through relu.
    """
    down = TinyOptions(width=width, blocks=blocks, activation=activation)
    up = TinyOptions(width=up_width or width, blocks=up_blocks, activation=activation)
    if len(blocks) != len(up_blocks):
        raise ConfigError(
            f"Got {len(blocks)} entries in blocks and {len(up_blocks)} in up_blocks of diffusers-tiny; expected as "
            "many, one for each grid."
        )

    def grid(shape: Sequence[int], channels: int) -> tuple[int, ...]:
        check_image(shape, "diffusers-tiny")
        return (channels, *down.grids(shape[1:])[-1])

    return Backbone(
        down=lambda shape, out, context: TinyDown(shape, out, context, down),
        up=lambda shape, out, context: TinyUp(shape, out, context, up),
        grid=grid,
    )
