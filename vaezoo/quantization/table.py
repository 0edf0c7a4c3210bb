"""What encoders to one table of codes share: the same V codes at each of N positions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaezoo.core import Part, full_precision, network_inputs
from vaezoo.quantization.codes import look_up, nearest_indices


class CodeTable(Part):
    """Base of encoders with one table of codes; a subclass calls `describe` and returns the codes in `table`."""

    knows_density = False

    def describe(self, network: nn.Module, latent: Sequence[int], codes: int) -> None:
        """Stores the network and the shapes of a latent (D, *grid) and its indices."""
        self.network, self.latent, self.codes = network, tuple(latent), codes
        self.sections, self.index_shape = (math.prod(latent[1:]),), self.latent[1:]

    def table(self) -> Tensor:
        """Returns the codes (V, D)."""
        raise NotImplementedError

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the codes (..., D, *grid) of `indices` (..., N)."""
        grid = self.latent[1:]
        return look_up(self.table(), indices.reshape(*indices.shape[:-1], *grid), len(grid))

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) of the codes nearest to z (..., D, *grid)."""
        return nearest_indices(self.table(), z, self.latent)


def encoder_output(network: nn.Module, x: Tensor, c: Tensor | None) -> Tensor:
    """Returns the output (B, D, *grid) of a network for x (B, *shape) and c (B, context), in full precision."""
    return full_precision(network(*network_inputs(x, c))).squeeze(1)


def products(one: Tensor, other: Tensor) -> Tensor:
    """Returns the scalar products (..., V) of vectors (..., D) and (V, D), in full precision also under autocast."""
    with torch.autocast(one.device.type, enabled=False):  # distances of bfloat16 would choose other codes
        one = full_precision(one)
        return one @ other.to(one.dtype).T
