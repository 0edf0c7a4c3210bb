"""Backbones: plain modules from tensors to tensors that know nothing of autoencoders.

One file each, found by its name. A backbone is a builder that returns a `Backbone`: `down` maps a shape to a smaller
one, `up` maps it back. Both kinds take any number of leading dimensions and an optional context (B, context), which is
broadcast over the dimensions in front of B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

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


class Network(nn.Module):
    """Maps x (*leading, *shape) and c (B, context) to (*leading, *out)."""

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int) -> None:
        super().__init__()
        self.shape, self.out, self.context = tuple(shape), tuple(out), context

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns (*leading, *out)."""
        leading = x.shape[: x.dim() - len(self.shape)]
        # A model in half precision: densities and draws are float32, weights are not.
        rows = x.reshape(-1, *self.shape).to(next(self.parameters()).dtype)
        if self.context:
            assert c is not None
            c = c.expand(*(leading or (1,)), self.context).reshape(-1, self.context)
        return self.rows(rows, c if self.context else None).reshape(*leading, *self.out)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, ...) of as many elements as `out` for x (rows, *shape) and c (rows, context)."""
        raise NotImplementedError

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the last bias so that a zero input to the last layer gives `output` (*out), or its closest."""
        raise NotImplementedError


def append_context(features: Tensor, c: Tensor | None) -> Tensor:
    """Returns features (rows, F) with the context (rows, C) beside them."""
    return features if c is None else torch.cat([features, c.to(features.dtype)], -1)
