"""`Network`, the base class of modules that map any number of leading dimensions, and a limit on their weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Self, cast

import torch
from torch import Tensor, nn

from vaezoo.errors import ShapeError, warn

Activation = Literal["relu", "tanh", "silu", "gelu", "elu", "leaky-relu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "leaky-relu": nn.LeakyReLU,
}

LARGE_NETWORK = 2**28  # weights: 1 GiB of float32; larger networks are seldom intended
LARGEST_NETWORK = 2**34  # weights: 64 GiB of float32


class Network(nn.Module):
    """A map from x (*leading, *shape) and c (B, context) to (*leading, *out).

    The context is broadcast over the dimensions in front of B. A subclass defines `rows`, on one leading dimension.
    """

    def __init__(self, shape: Sequence[int], out: Sequence[int], context: int) -> None:
        super().__init__()
        self.shape, self.out, self.context = tuple(shape), tuple(out), context
        self._dtype: torch.dtype | None = None  # of the weights, looked up once

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns (*leading, *out)."""
        leading = x.shape[: x.dim() - len(self.shape)]
        # In a model of half precision, x may be float32, since densities and draws are.
        rows = x.reshape(-1, *self.shape).to(self._dtype or self._weight_dtype())
        if self.context:
            assert c is not None
            c = c.expand(*(leading or (1,)), self.context).reshape(-1, self.context)
        return self.rows(rows, c if self.context else None).reshape(*leading, *self.out)

    def _weight_dtype(self) -> torch.dtype:
        self._dtype = next(self.parameters()).dtype
        return self._dtype

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._dtype = None
        return cast(Self, super()._apply(fn, recurse))  # type: ignore[no-untyped-call]  # torch's own has no types

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


def check_weights(
    name: str, layers: Iterable[int], advice: str = "Choose a smaller shape, latent, context or width."
) -> None:
    """Validates the total size of the layers of `name`, given the number of weights of each; warns if it is large.

    Raises:
        ShapeError: more than `LARGEST_NETWORK` weights in all.
    """
    total = sum(layers)
    if total > LARGEST_NETWORK:
        raise ShapeError(f"Got a {name} of {total:,} weights; expected at most {LARGEST_NETWORK:,}. {advice}")
    if total > LARGE_NETWORK and not torch.empty(0).is_meta:
        warn(f"The {name} has {total:,} weights, {total / 2**28:.1f} GiB of float32. {advice}")
