"""Conversion of every index argument to integers: masks, slices, lists, arrays and tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaezoo.errors import DataError, shorten

Indices = Tensor | Sequence[int] | Sequence[bool] | slice | np.ndarray[Any, np.dtype[Any]]
"""Accepted index arguments."""


def as_indices(indices: object, count: int, name: str) -> Tensor:
    """Returns the positions, `int64` of shape (M,) with 0 ≤ position < `count`, that an index argument selects.

    Args:
        indices: A boolean mask (count,), integers (M,) in which negative ones count from the end, a slice, a range, or
            one integer; tensors keep their device.
        count: Number of examples.
        name: Name of the set in errors.

    Raises:
        DataError: Nothing is selected, an index is out of range, a mask has another length, or the type is wrong.
    """
    index = _integers(indices, count, name)
    if index.dtype == torch.bool:
        if index.shape != (count,):
            raise DataError(
                f"{name}: got a mask of shape {tuple(index.shape)}; expected ({count},), one value for each example."
            )
        index = index.nonzero().flatten()
        if not len(index):
            raise DataError(f"{name}: got indices that select nothing: all {count} values of the mask are false.")
        return index
    if index.ndim != 1 or index.numel() == 0 or int(index.min()) < -count or int(index.max()) >= count:
        reach = f" from {int(index.min())} to {int(index.max())}" if index.numel() else ""
        raise DataError(
            f"{name}: got indices of shape {tuple(index.shape)}{reach}; expected (M,), at least one index, from "
            f"{-count} to {count - 1}, since the set has {count} examples. Correct the indices."
        )
    return torch.where(index < 0, index + count, index)


def is_single(index: object) -> bool:
    """Returns whether an index is one integer, such as 3, `np.int64(3)` or a tensor without dimensions."""
    if isinstance(index, Tensor | np.ndarray):
        return index.ndim == 0
    return isinstance(index, int | np.integer) and not isinstance(index, bool)


def _integers(indices: object, count: int, name: str) -> Tensor:
    """Returns a mask or integers as a tensor, not yet checked for range."""
    try:
        if isinstance(indices, slice):
            return torch.from_numpy(np.arange(*indices.indices(count), dtype=np.int64))
        index = indices.detach() if isinstance(indices, Tensor) else _from_array(np.asarray(indices), indices)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name}: got indices {shorten(indices)} of type {type(indices).__name__} ({error}); expected integers, a "
            "boolean mask, or a slice."
        ) from None
    if index.is_floating_point() or index.is_complex():
        raise DataError(
            f"{name}: got indices of type {index.dtype}; expected integers or a boolean mask. Convert them with "
            ".long() or .bool()."
        )
    # A mask stored as numbers; of two examples, 0 and 1 are all positions there are.
    number = index.dtype != torch.bool and index.shape == (count,) and (count > 2 or index.dtype == torch.uint8)
    if number and bool(((index == 0) | (index == 1)).all()):
        raise DataError(
            f"{name}: got {count} indices that are all 0 or 1, as many as examples, which may be a mask; expected a "
            "boolean mask or positions. Convert a mask with .bool() or .astype(bool)."
        )
    return (index if index.dtype == torch.bool else index.to(torch.int64)).reshape(index.shape or (1,))


def _from_array(array: "np.ndarray[Any, np.dtype[Any]]", given: object) -> Tensor:
    if isinstance(given, np.ma.MaskedArray):
        raise TypeError("a masked array")
    if array.size == 0 and not isinstance(given, np.ndarray):
        return torch.zeros(array.shape, dtype=torch.int64)
    if array.dtype == np.bool_ and array.ndim:
        return torch.from_numpy(np.array(array))
    if array.dtype.kind not in "iu" or (isinstance(given, list | tuple) and any(isinstance(i, bool) for i in given)):
        raise TypeError("neither whole numbers nor all booleans")
    return torch.from_numpy(array.astype(np.uint8 if array.dtype == np.uint8 else np.int64))
