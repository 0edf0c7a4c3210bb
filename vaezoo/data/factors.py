"""Ground-truth factors of images, one number per factor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from vaezoo.data.indexing import Indices, as_indices
from vaezoo.errors import DataError, ShapeError, shorten

_LARGEST = 2**62  # combinations; their numbers fit into an int64


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """The factors of N examples: each has one of `sizes[k]` values, numbered from 0.

    The values of an example are stored as one number, its place in the grid of all combinations; the last factor varies
    fastest.

    Args:
        names: Names of the factors, K ≥ 1, all different.
        sizes: Number of values of each factor, (K,).
        places: Places in the grid, (N,), `int64`, on the CPU.

    Raises:
        DataError: Names, sizes or places are invalid.
        ShapeError: `places` is not an `int64` tensor of one dimension on the CPU.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    places: Tensor

    def __post_init__(self) -> None:
        """Validates the fields."""
        if not self.names or len(set(self.names)) != len(self.names) or len(self.sizes) != len(self.names):
            raise DataError(
                f"Got factors {shorten(self.names)} of sizes {shorten(self.sizes)}; expected different names, at least "
                "one, and one size for each."
            )
        if min(self.sizes) < 1 or math.prod(self.sizes) > _LARGEST:
            raise DataError(
                f"Got sizes {shorten(self.sizes)} of factors; expected at least 1 each. Leave out the others."
            )
        places = self.places
        if places.dtype != torch.int64 or places.dim() != 1 or places.device.type != "cpu":
            raise ShapeError(
                f"Got places of factors of type {places.dtype} and shape {tuple(places.shape)}; expected int64 and "
                "(N,), on the CPU. Use Factors.of for a table of values."
            )
        if len(places) and (int(places.min()) < 0 or int(places.max()) >= math.prod(self.sizes)):
            raise DataError(
                f"Got places of factors from {int(places.min())} to {int(places.max())}; expected 0 to "
                f"{math.prod(self.sizes) - 1}, the combinations of sizes {self.sizes}."
            )

    @classmethod
    def of(cls, values: Tensor, names: Sequence[str], sizes: Sequence[int] | None = None) -> Self:
        """Returns the factors of a table of values.

        Args:
            values: Integers (N, K) from 0, the values of each example's factors.
            names: Names of the factors, (K,).
            sizes: Number of values of each factor; None means one more than the largest value.

        Raises:
            DataError: A value is out of range.
            ShapeError: `values` is not an integer table with a column for each name.
        """
        if values.dim() != 2 or values.is_floating_point() or values.shape[1] != len(names) or not len(values):
            raise ShapeError(
                f"Got values of factors of type {values.dtype} and shape {tuple(values.shape)}; expected whole numbers "
                f"(N, {len(names)}), a column for each name."
            )
        table = values.to("cpu", torch.int64)
        limits = tuple(int(most) + 1 for most in table.amax(0)) if sizes is None else tuple(sizes)
        if int(table.min()) < 0 or any(int(most) >= size for most, size in zip(table.amax(0), limits, strict=True)):
            raise DataError(f"Got values of factors outside 0 ≤ value < size of {limits}. Number the values from 0.")
        places = torch.zeros(len(table), dtype=torch.int64)
        for column, size in zip(table.T, limits, strict=True):
            places = places * size + column
        return cls(names=tuple(names), sizes=limits, places=places)

    def __len__(self) -> int:
        """Returns N, the number of examples."""
        return len(self.places)

    def values(self, indices: Indices | None = None) -> Tensor:
        """Returns the values of the examples at `indices`, see `Dataset.subset`, or of all, as `int64` (B, K)."""
        places = self.places if indices is None else self.subset(indices).places
        return torch.stack(torch.unravel_index(places, self.sizes), 1)

    def subset(self, indices: Indices) -> Self:
        """Returns the factors of the examples at `indices`, in that order; see `Dataset.subset`."""
        return replace(self, places=self.places[as_indices(indices, len(self), "factors").cpu()])
