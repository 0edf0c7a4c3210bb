"""The `mlp` backbone: fully connected layers for any shape."""

from typing import Annotated

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.networks import MLP, Activation
from vaezoo.networks.perceptron import Width


def mlp(
    *, hidden: Annotated[tuple[Width, ...], Meta(max_length=64)] = (400,), activation: Activation = "relu"
) -> Backbone:
    """Returns fully connected layers for any shape.

    Args:
        hidden: widths of the hidden layers of the encoder; those of the decoder are mirrored.
        activation: non-linearity.
    """
    return Backbone(
        down=lambda shape, out, context: MLP(shape, out, context, hidden, activation),
        up=lambda shape, out, context: MLP(shape, out, context, hidden[::-1], activation),
        grid=lambda shape, channels: (channels, 16),
    )
