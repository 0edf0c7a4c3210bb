"""Backbones: plain modules from tensors to tensors that know nothing of autoencoders.

One file each, found by its name. A backbone is a builder that returns a `Backbone`: `down` maps a shape to a smaller
one, `up` maps it back. Both kinds take any number of leading dimensions and an optional context (B, context), which is
broadcast over the dimensions in front of B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vaezoo.errors import ShapeError

LARGEST_NETWORK = 2**28  # weights: 1 GiB of float32

Activation = Literal["relu", "tanh", "silu", "gelu", "elu", "leaky-relu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "leaky-relu": nn.LeakyReLU,
}


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Two builders of networks; `down(shape, out, context)` and `up(latent, out, context)` return modules.

    `grid(shape, channels)` is the latent shape that comes naturally to it, with `channels` numbers at each position.
    """

    down: Callable[[Sequence[int], Sequence[int], int], Network]
    up: Callable[[Sequence[int], Sequence[int], int], Network]
    grid: Callable[[Sequence[int], int], tuple[int, ...]]


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

    def start_at(self, output: Tensor) -> None:
        """Sets the last bias so that a zero input to the last layer gives `output` (*out), or its closest."""
        raise NotImplementedError


def started(*size: int, scale: float = 1.0) -> Tensor:
    """Returns normal noise of this scale, for parameters to start from.

    On the meta device nothing is drawn: torch would import seconds of its compiler to find the shape of a draw.
    """
    values = torch.empty(size)
    return values if values.is_meta else values.normal_(0.0, scale)


@torch.no_grad()
def spread(network: nn.Module, outputs: Tensor, scale: float) -> None:
    """Rescales the last layer of a network so that data spreads its outputs: mean 0, standard deviation `scale`.

    What is a thousandth as large as the noise of a latent, as after many layers of small weights, is not learnt before
    the rate has silenced it. After Mishkin & Matas (2016, https://arxiv.org/abs/1511.06422), without iterations.

    Args:
        network: a linear layer, or a network whose last layer is its `head`. One with another last layer stays as it
            is, and so does an output that does not vary, as none does over a single example.
        outputs: what it makes of data, (N, channels, ...); of more channels than these the first are meant.
        scale: the standard deviation of each.
    """
    while not isinstance(network, nn.Linear | nn.Conv2d):
        if not isinstance(below := getattr(network, "head", None), nn.Module):
            return
        network = below
    values = outputs.transpose(0, 1).flatten(1).float()
    if values.shape[1] < 2:
        return
    deviation, mean = torch.std_mean(values, 1)
    varies = deviation > 1e-6 * mean.abs()
    factor = torch.where(varies, scale / deviation, 1.0).to(network.weight)
    count = len(factor)
    network.weight[:count].mul_(factor.reshape(-1, *[1] * (network.weight.dim() - 1)))
    if network.bias is not None:
        network.bias[:count].sub_(torch.where(varies, mean, 0.0).to(network.weight)).mul_(factor)


def check_weights(what: str, layers: Iterable[int]) -> None:
    """Raises ShapeError, before anything is allocated, if layers of so many weights each are too large to be meant."""
    total = sum(layers)
    if total > LARGEST_NETWORK:
        raise ShapeError(
            f"Got a {what} of {total:,} weights; expected at most {LARGEST_NETWORK:,}. Choose a smaller shape, latent "
            "or width, or a convolutional backbone."
        )


def join(features: Tensor, c: Tensor | None) -> Tensor:
    """Returns features (rows, F) with the context (rows, C) beside them."""
    return features if c is None else torch.cat([features, c.to(features.dtype)], -1)
