"""`Network`, the base class of modules that map any number of leading dimensions and an optional context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Activation = Literal["relu", "tanh", "silu", "gelu", "elu", "leaky-relu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "leaky-relu": nn.LeakyReLU,
}


@runtime_checkable
class HasOutputBias(Protocol):
    """A network whose output can start at a given value."""

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the last bias so that a zero input to the last layer gives `output` (*out)."""


class Network(nn.Module):
    """A map from x (*leading, *shape) and c (B, context) to (*leading, *out).

    The context is broadcast over the dimensions in front of B. A subclass defines `rows`, on one leading dimension.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int) -> None:
        super().__init__()
        self.shape, self.out, self.context = tuple(shape), tuple(out), context

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns (*leading, *out)."""
        leading = x.shape[: x.dim() - len(self.shape)]
        # In a model of half precision, x may be float32, since densities and draws are.
        rows = x.reshape(-1, *self.shape).to(next(self.parameters()).dtype)
        if self.context:
            assert c is not None
            c = c.expand(*(leading or (1,)), self.context).reshape(-1, self.context)
        return self.rows(rows, c if self.context else None).reshape(*leading, *self.out)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, ...), with as many elements as `out` per row, for x (rows, *shape) and c (rows, context)."""
        raise NotImplementedError

    def last_layer(self) -> nn.Module | None:
        """Returns the layer whose weights and biases may be rescaled to data; None without such a layer."""
        return None

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the last bias so that a zero input to the last layer gives `output` (*out); no effect without a bias."""


def append_context(features: Tensor, c: Tensor | None) -> Tensor:
    """Returns features (rows, F) with the context (rows, C) appended, (rows, F + C)."""
    return features if c is None else torch.cat([features, c.to(features.dtype)], -1)
