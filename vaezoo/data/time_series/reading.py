"""Series from a file or from Python, as float64 tensors (C, t)."""

import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.core import expanded
from vaezoo.errors import DataError, ShapeError, shorten

PREFIX: Final = "series:"
FILE: Final = ".npz"
FORMS: Final = (
    "one array (N, T) or (N, C, T); or one array (T,) or (C, T) for each series; or values (N, T) or (N, C, T) and "
    "lengths (N,)"
)


@dataclass(frozen=True)
class Series:
    """Series as they are given.

    Args:
        values: (C, t) each, float64, NaN in gaps.
        names: of the series, for errors.
        labels: class numbers, names or vectors of the series; None without any.
    """

    values: list[Tensor]
    names: list[str]
    labels: object = None


def read_series(source: object) -> Series:
    """Returns the series of a .npz file, of an array (N, T) or (N, C, T), or of a list of arrays (t,) or (C, t).

    Raises:
        DataError: the file cannot be read, or holds Python objects; a series has no value, or infinite ones; the series
            differ in their number of channels.
        ShapeError: an array of another shape or type.
    """
    if isinstance(source, str | os.PathLike):
        return _read_file(expanded(os.fspath(source).removeprefix(PREFIX)))
    if isinstance(source, Mapping):
        return _of_arrays({str(key): _numbers(value, f"series {key!r}") for key, value in source.items()})
    if isinstance(source, list | tuple):
        return _of_arrays({str(number): _numbers(each, f"series {number}") for number, each in enumerate(source)})
    array = _numbers(source, "series")
    return checked(_rows(array), [str(number) for number in range(len(array))] if array.ndim else [])


def _read_file(path: Path) -> Series:
    if path.suffix.lower() != FILE:
        raise DataError(f"Got the series {path.name}; expected a file that ends in {FILE}, as numpy.savez writes it.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except ValueError as error:
        objects = "Object arrays" in str(error)
        remedy = (
            "Save each series under a key of its own: numpy.savez(path, *series)." if objects else "Check the file."
        )
        got = "an array of Python objects, which only pickle can read" if objects else str(error)
        raise DataError(f"{path.name}: got {got}; expected arrays of numbers. {remedy}") from None
    except (OSError, EOFError, KeyError, TypeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"Could not read {path}: {error}. Check that numpy.savez wrote it.") from None
    labels = arrays.pop("labels", None)
    if not arrays:
        raise DataError(f"{path.name}: got no array of series; expected {FORMS}.")
    values = {key: _numbers(array, f"{path.name}, {key!r}") for key, array in arrays.items()}
    found = _of_file(values, path.name)
    if labels is not None and (labels.ndim == 0 or len(labels) != len(found.values)):
        raise ShapeError(
            f"{path.name}: got labels of shape {labels.shape}; expected one for each of {len(found.values)} series."
        )
    named = labels is not None and labels.dtype.kind in "US"
    return Series(found.values, found.names, labels.astype(str).tolist() if named else labels)


def _of_file(arrays: dict[str, NDArray[np.float64]], file: str) -> Series:
    """Returns the series of the arrays of a file."""
    if "lengths" in arrays:
        if set(arrays) != {"values", "lengths"}:
            raise DataError(f"{file}: got the keys {shorten(sorted(arrays))}; expected values and lengths, and labels.")
        rows, lengths = _rows(arrays["values"]), arrays["lengths"]
        longest = rows[0].shape[1] if rows else 0
        whole = lengths.shape == (len(rows),) and bool(((lengths >= 1) & (lengths == lengths.round())).all())
        if not whole or (lengths > longest).any():
            raise DataError(
                f"{file}: got lengths of shape {lengths.shape}; expected {len(rows)} whole numbers from 1 to "
                f"{longest}, one for each row of values."
            )
        cut = [row[:, : int(length)] for row, length in zip(rows, lengths, strict=True)]
        return checked(cut, [str(number) for number in range(len(cut))])
    if len(arrays) == 1 and next(iter(arrays.values())).ndim > 1:
        rows = _rows(next(iter(arrays.values())))
        return checked(rows, [str(number) for number in range(len(rows))])
    return _of_arrays(arrays)


def _of_arrays(arrays: Mapping[str, NDArray[np.float64]]) -> Series:
    """Returns series of arrays (t,) or (C, t), one for each."""
    found = []
    for name, array in arrays.items():
        if array.ndim not in (1, 2):
            raise ShapeError(
                f"Got series {shorten(name)} of shape {array.shape}; expected (T,) or (C, T). In a file: {FORMS}."
            )
        found.append(np.atleast_2d(array))
    return checked([torch.from_numpy(each) for each in found], list(arrays))


def _rows(array: NDArray[np.float64]) -> list[Tensor]:
    """Returns the series of an array (N, T) or (N, C, T)."""
    if array.ndim not in (2, 3):
        raise ShapeError(
            f"Got an array of shape {array.shape}; expected (N, T), or (N, C, T) with the channels before the length. "
            "Pass one series as [array]."
        )
    whole = torch.from_numpy(array)
    return list(whole if array.ndim == 3 else whole[:, None])


def _numbers(value: Any, name: str) -> NDArray[np.float64]:
    """Returns an array or tensor of numbers as float64; raises ShapeError for other values."""
    given = value.detach().cpu() if isinstance(value, Tensor) else value
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise ShapeError(f"Got {name}, which is no array ({error}); expected numbers (T,) or (C, T).") from None
    if array.dtype.kind not in "biuf":
        raise ShapeError(f"Got {name} of type {array.dtype}; expected numbers. Convert it with .astype(float).")
    return np.array(array, dtype=np.float64, order="C")


def checked(values: list[Tensor], names: list[str]) -> Series:
    """Returns series (C, t); raises DataError if there are none, or one has no finite value or other channels."""
    if not values:
        raise DataError("Got no series; expected at least one.")
    for name, each in zip(names, values, strict=True):
        if len(each) != len(values[0]) or not len(each):
            raise DataError(
                f"Got series {shorten(name)} with {len(each)} channels and {len(values[0])} in the first one; expected "
                "as many in all. A series has the shape (C, T), channels first."
            )
        if bool(each.isinf().any()):
            raise DataError(f"Got infinite values in series {shorten(name)}; expected numbers, or NaN for gaps.")
        if bool(each.isnan().all()):
            raise DataError(f"Got series {shorten(name)} without any value; expected at least one. Remove it.")
    return Series(values, names)


def windows_of(values: Tensor, window: int, stride: int) -> list[Tensor]:
    """Returns the windows (C, t), t ≤ `window`, of a series (C, T), those without any value left out.

    They start at 0, `stride`, 2 `stride`, …, up to the first that reaches the end of the series; it may be shorter.
    """
    last = max(0, values.shape[1] - window)
    starts = range(0, min(last + stride, values.shape[1]), stride)
    found = [values[:, start : start + window] for start in starts]
    return [each for each in found if not bool(each.isnan().all())]


def labels_of(given: object, counts: Sequence[int]) -> object:
    """Returns labels or vectors of series, repeated for the windows of each, `counts`."""
    if isinstance(given, list | tuple) and given and isinstance(given[0], str):
        return [label for label, count in zip(given, counts, strict=True) for _ in range(count)]
    return torch.as_tensor(np.asarray(given)).repeat_interleave(torch.tensor(counts), 0)
