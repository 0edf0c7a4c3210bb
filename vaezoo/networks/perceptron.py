"""Multi-layer perceptrons."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from vaezoo.networks.network import ACTIVATIONS, Activation, Network, append_context, check_weights

Width = Annotated[int, Meta(ge=1, le=65536)]


class MLP(Network):
    """A perceptron on the flattened input, with the context appended to it.

    Args:
        shape, out: input and output event shapes.
        context: width of the context, 0 for none.
        hidden: widths of the hidden layers; may be empty.
        activation: the non-linearity after each hidden layer.
        gated: whether each hidden layer is a * sigmoid(b) of two linear maps a and b, without `activation`.
        advice: the end of the error if there are too many weights.
    """

    def __init__(
        self,
        shape: Sequence[int],
        out: Sequence[int],
        context: int,
        hidden: Sequence[int],
        activation: Activation,
        gated: bool = False,
        advice: str = "Choose a smaller shape, latent, context or width, or the backbone 'conv' for images.",
    ) -> None:
        super().__init__(shape, out, context)
        widths = [math.prod(shape) + context, *hidden]
        pairs, factor = list(pairwise(widths)), 2 if gated else 1
        sizes = [factor * before * after for before, after in pairs]
        check_weights("perceptron", [*sizes, widths[-1] * math.prod(out)], advice)
        layers: list[nn.Module] = []
        for before, after in pairs:
            layers += [nn.Linear(before, factor * after), nn.GLU() if gated else ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], math.prod(out))

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, prod(out))."""
        features: Tensor = self.layers(append_context(x.flatten(1), c))
        head: Tensor = self.head(features)
        return head

    def last_layer(self) -> nn.Module:
        """Returns the linear output layer."""
        return self.head

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the last bias to `output` (*out)."""
        with torch.no_grad():
            self.head.bias.copy_(output.flatten())
