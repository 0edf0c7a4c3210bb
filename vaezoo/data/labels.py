"""Labels that are words: classes with names."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaezoo.errors import DataError

Words = Sequence[str | None]
"""Labels as text, one for each example; None where unknown."""


def are_words(values: object) -> bool:
    """Returns whether labels are text: a list, tuple, array or column of strings, of which some may be None."""
    if isinstance(values, np.ndarray):
        return values.dtype.kind == "U" or (values.dtype.kind == "O" and _are_words(values.ravel().tolist()))
    return isinstance(values, list | tuple) and _are_words(values)


def _are_words(values: Sequence[Any]) -> bool:
    return any(isinstance(each, str) for each in values)


def numbered(values: "Words | np.ndarray[Any, np.dtype[Any]]", name: str) -> tuple[Tensor, tuple[str, ...]]:
    """Returns class numbers (N,), -1 for None, and the names of the classes in alphabetical order.

    Raises:
        DataError: A label is neither text nor None, or the labels do not have one dimension.
    """
    words = np.asarray(values, dtype=object)
    odd = [each for each in words.ravel().tolist() if not (each is None or isinstance(each, str))]
    if words.ndim != 1 or odd:
        got = f"a {type(odd[0]).__name__} among them" if odd else f"shape {words.shape}"
        raise DataError(
            f"{name}: got labels as text with {got}; expected one text for each example, or None where it is unknown."
        )
    names = tuple(sorted({each for each in words.tolist() if each is not None}))
    numbers = {each: number for number, each in enumerate(names)}
    return torch.tensor([-1 if each is None else numbers[each] for each in words.tolist()]), names
