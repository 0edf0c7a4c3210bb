"""The `mlp` backbone: fully connected layers for any shape."""

from typing import Annotated

from msgspec import Meta

from vaezoo.backbones import Backbone
from vaezoo.networks import MLP, Activation
from vaezoo.networks.perceptron import Width


def mlp(
    *,
    hidden: Annotated[tuple[Width, ...], Meta(max_length=64)] = (400,),
    activation: Activation = "relu",
    gated: bool = False,
) -> Backbone:
    """Returns fully connected layers for any shape.

    Args:
        hidden: widths of the hidden layers of the encoder; those of the decoder are mirrored.
        activation: non-linearity.
        gated: whether each hidden layer is a * sigmoid(b) of two linear maps a and b, without `activation` (Dauphin et
            al., 2017, https://arxiv.org/abs/1612.08083).
    """
    return Backbone(
        down=lambda shape, out, context: MLP(shape, out, context, hidden, activation, gated),
        up=lambda shape, out, context: MLP(shape, out, context, hidden[::-1], activation, gated),
        grid=lambda shape, channels: (channels, 16),
    )
