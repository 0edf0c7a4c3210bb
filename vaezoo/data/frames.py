"""Data frames of pandas, polars and others with the same methods; none of these packages is imported."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaezoo.errors import DataError, ShapeError, shorten

# Types of columns, such as int64, UInt8, Float32, boolean and int64[pyarrow]; not interval[int64].
_NUMBERS = re.compile(r"(u?int\d*|float\d*|bool(ean)?|double|decimal\d*)\b", re.IGNORECASE)


def is_frame(value: object) -> bool:
    """Returns whether a value is a data frame: it has named columns, types of columns, and a conversion to numpy."""
    return all(hasattr(value, each) for each in ("columns", "dtypes", "to_numpy", "shape"))


def columns_of(data: object) -> list[str] | None:
    """Returns the names of the columns of a data frame or of that in a tuple (frame, c); None for other data."""
    frame: Any = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    return list(map(str, frame.columns)) if is_frame(frame) else None


def with_columns(data: object, columns: Sequence[str] | None) -> object:
    """Returns a data frame, or a tuple (frame, c), with these columns in this order; other data unchanged.

    Raises:
        ShapeError: A column is missing.
    """
    own = columns_of(data)
    if not columns or own is None or own == list(columns):
        return data
    if missing := [name for name in columns if name not in own]:
        raise ShapeError(
            f"Got a data frame without the columns {shorten(', '.join(missing), 300)}; expected those of the training "
            f"data: {shorten(', '.join(columns), 300)}. Rename or add them, or pass frame.to_numpy() if the columns "
            "have this order."
        )
    frame, *rest = data if isinstance(data, tuple) else (data,)
    keys = dict(zip(own, frame.columns, strict=True))
    chosen = frame[[keys[name] for name in columns]]
    return (chosen, *rest) if rest else chosen


def frame_tensor(frame: Any, name: str) -> Tensor:
    """Returns the rows of a data frame of numeric columns, `float32` (N, D).

    Raises:
        ShapeError: Columns are not numeric.
        DataError: Values are missing.
    """
    if len(set(frame.columns)) < len(frame.columns):
        raise ShapeError(
            f"{name}: got a data frame with columns of one name ({shorten(', '.join(map(str, frame.columns)))}); "
            "expected different names. Rename them."
        )
    columns = [frame[key] for key in frame.columns]
    wrong = [
        f"{key} ({column.dtype})"
        for key, column in zip(frame.columns, columns, strict=True)
        if not _NUMBERS.match(str(column.dtype))
    ]
    if wrong or not columns:
        got = f"columns that are not: {shorten(', '.join(wrong), 300)}" if wrong else "none"
        raise ShapeError(
            f"{name}: expected a data frame of numeric columns; got {got}. Drop those, encode them as numbers, or pass "
            "vaezoo.data.table(frame) to the likelihood mixed."
        )
    values = [_numbers(column) for column in columns]
    for key, each in zip(frame.columns, values, strict=True):
        if np.isnan(each).any():
            raise DataError(
                f"{name}: got missing values in column {key!r}, first in row {int(np.isnan(each).argmax())}; expected "
                "numbers. Fill them in, drop those rows, or pass vaezoo.data.table(frame) to the likelihood mixed."
            )
    return torch.from_numpy(np.stack(values, 1))


def _numbers(column: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Returns a column as `float32`, missing values as NaN."""
    try:
        found = column.to_numpy(dtype="float32", na_value=np.nan)  # pandas
    except TypeError:
        found = column.to_numpy()
    return np.asarray(found, dtype=np.float32)
