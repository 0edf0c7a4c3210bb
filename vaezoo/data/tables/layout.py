"""`TableLayout`: the columns of a table, and the maps from its rows to a tensor and back."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Final, Literal, cast, get_args

import msgspec
import numpy as np
import torch
from msgspec import Meta
from torch import Tensor

from vaezoo.data.tables.frames import COLUMNS, Library, Values, as_frame
from vaezoo.data.tables.reading import parsed_cell, read_columns
from vaezoo.errors import DataError, ShapeError, did_you_mean, shorten

Kind = Literal["number", "positive", "integer", "count", "category", "flag", "date"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "number": ("gaussian", "student-t"),
    "positive": ("log-normal",),
    "integer": ("gaussian", "student-t"),
    "count": ("negative-binomial", "poisson"),
    "category": ("categorical",),
    "flag": ("bernoulli",),
    "date": ("gaussian", "student-t"),
}
"""The families of likelihood `mixed` for each kind of column, the default first."""

UNITS: Final[Mapping[str, timedelta]] = {
    "day": timedelta(days=1), "second": timedelta(seconds=1), "microsecond": timedelta(microseconds=1),
}  # fmt: skip
"""Units in which dates are counted from 1970."""

EPOCH = datetime(1970, 1, 1)
MOST_BYTES = 40_000  # of a layout as JSON, which the config of a model holds
LARGEST_WHOLE = 2**53  # of whole numbers: beyond it, float64 has gaps

NUMBERS: Final[Mapping[str, tuple[str, Callable[[float], bool]]]] = {
    "number": ("a finite number", lambda number: True),
    "positive": ("a number above 0", lambda number: number > 0),
    "integer": ("a whole number", lambda number: number.is_integer() and abs(number) < LARGEST_WHOLE),
    "count": ("a whole number of at least 0", lambda number: number.is_integer() and 0 <= number < LARGEST_WHOLE),
}
"""The numbers that a column of a kind may hold, in words and as a condition."""

Category = str | int | float | bool
Name = Annotated[str, Meta(min_length=1, max_length=100)]
Number = Annotated[float, Meta(ge=-1e300, le=1e300)]


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A column of a table.

    Attributes:
        name: its name in the frame.
        kind: "number", "positive" (above 0), "integer", "count" (a whole number from 0), "category", "flag" (one of two
            values) or "date".
        dtype: the name of its type in the frame.
        family: its distribution under the likelihood `mixed`.
        center, scale: x is (value - center) / scale for "number", "integer" and "date" (counted in `unit` from 1970),
            value / scale for "positive", the value for "count".
        values: the categories in the order of their elements of x; of a flag, the values of 0 and 1.
        unit: of a date.
    """

    name: Name
    kind: Kind
    dtype: Annotated[str, Meta(max_length=40)]
    family: Annotated[str, Meta(max_length=24)]
    center: Number = 0.0
    scale: Annotated[float, Meta(gt=0, le=1e300)] = 1.0
    values: Annotated[tuple[Category, ...], Meta(max_length=10_000)] = ()
    unit: Literal["", "day", "second", "microsecond"] = ""

    def __post_init__(self) -> None:
        """Validates the fields against each other; msgspec turns a ValueError into its own error."""
        if self.family not in FAMILIES[self.kind]:
            raise ValueError(f"column {shorten(self.name)} of kind {self.kind}: unknown family {shorten(self.family)}")
        numbers = {"flag": len(self.values) == 2, "category": len(self.values) > 0}
        if not numbers.get(self.kind, not self.values) or len(set(map(key_of, self.values))) < len(self.values):
            raise ValueError(f"column {shorten(self.name)} of kind {self.kind}: got {len(self.values)} values")
        if (self.kind == "date") != bool(self.unit):
            raise ValueError(f"column {shorten(self.name)} of kind {self.kind}: got the unit {self.unit!r}")

    @property
    def width(self) -> int:
        """The number of elements of x."""
        return len(self.values) if self.kind == "category" else 1

    def encoded(self, values: Values, where: Callable[[int], str]) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """Returns the elements of x of values, (N, width), NaN for None; `where` names a row in errors.

        Raises:
            DataError: a value does not fit the column.
        """
        found = np.full((len(values), self.width), np.nan)
        codes = {key_of(each): code for code, each in enumerate(self.values)}
        for row, value in enumerate(values):
            if value is None:
                continue
            if self.values:
                code = codes.get(key_of(value))
                if code is None:
                    raise self._unknown(value, where(row))
                found[row] = np.eye(self.width)[code] if self.kind == "category" else code
            else:
                found[row] = (self._number(value, where(row)) - self.center) / self.scale
        return found

    def _unknown(self, value: object, place: str) -> DataError:
        known = list(map(str, self.values))
        shown = ", ".join(map(repr, self.values[:12])) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
        return DataError(
            f"Got {shorten(value)} in column {self.name!r}, {place}; expected one of {shown}."
            f"{did_you_mean(value, known)} Correct it, leave it empty (a gap), or make a new layout with these rows."
        )

    def _number(self, value: object, place: str) -> float:
        """Returns a number, or a date as a number of units; raises DataError if it does not fit the kind."""
        if self.kind == "date":
            if not isinstance(value, date) or getattr(value, "tzinfo", None) is not None:
                raise DataError(
                    f"Got {shorten(value)} in column {self.name!r}, {place}; expected a date without a time zone."
                )
            return since(value) / UNITS[self.unit]
        number = float(value) if isinstance(value, int | float) else math.nan
        expected, fits = NUMBERS[self.kind]
        if not (math.isfinite(number) and fits(number)):
            raise DataError(
                f"Got {shorten(value)} in column {self.name!r}, {place}; expected {expected}. Correct it, leave it "
                "empty (a gap), or choose another kind of column (kinds=)."
            )
        return number

    def decoded(self, x: "np.ndarray[Any, np.dtype[np.float64]]") -> Values:
        """Returns values for elements of x (N, width): the nearest that the kind has; None where one is NaN."""
        gaps = np.isnan(x).any(1)
        if self.values:
            codes = x.argmax(1) if self.kind == "category" else (x[:, 0] > 0.5).astype(int)
            return [None if gap else self.values[code] for gap, code in zip(gaps, codes.tolist(), strict=True)]
        numbers = (x[:, 0] * self.scale + self.center).tolist()
        return [None if gap else self._value(number) for gap, number in zip(gaps, numbers, strict=True)]

    def _value(self, number: float) -> object:
        if self.kind == "date":
            moment = EPOCH + round(number) * UNITS[self.unit]
            return moment.date() if self.dtype == "date" else moment
        if self.kind in ("number", "positive"):
            return number
        whole = round(number) if self.kind == "integer" else max(0, round(number))
        return float(whole) if "float" in self.dtype.lower() else whole


class TableLayout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The columns of a table: plain data that a model's config holds, and the maps between a frame and a tensor.

    x (N, width) has the columns in this order; a category has one element for each of its values (one-hot). A gap is
    NaN in all elements of its column. `vaezoo.data.table` makes a layout; `layout_of(model)` returns that of a model.

    Attributes:
        columns: the columns.
        library: of the frames that `frame` returns: "pandas", "polars", or "columns" for a dict of lists.
    """

    columns: Annotated[tuple[Column, ...], Meta(min_length=1, max_length=10_000)]
    library: Library = COLUMNS

    def __post_init__(self) -> None:
        """Validates the names."""
        if len({each.name for each in self.columns}) < len(self.columns):
            raise ValueError("two columns have one name")

    def __repr__(self) -> str:
        """Returns a table of names, kinds, families and what x holds, with a line for each column."""
        rows = [(each.name, each.kind, each.family, _content(each)) for each in self.columns]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([f"TableLayout of {len(rows)} columns, {self.width} elements of x:", *lines])

    @property
    def width(self) -> int:
        """The number of elements of x."""
        return sum(each.width for each in self.columns)

    def places(self) -> dict[str, slice]:
        """Returns the elements of x of each column."""
        ends = np.cumsum([each.width for each in self.columns]).tolist()
        return {each.name: slice(end - each.width, end) for each, end in zip(self.columns, ends, strict=True)}

    def families(self) -> list[str]:
        """Returns the option `columns` of the likelihood `mixed`."""
        return [f"categorical-{each.width}" if each.kind == "category" else each.family for each in self.columns]

    def tensor(self, table: object) -> Tensor:
        """Returns the rows of a frame, a dict of columns or a file ("FILE.csv"), `float64` (N, width), gaps as NaN.

        Raises:
            ShapeError: a column is missing or unknown.
            DataError: a value does not fit its column, such as a category that the training data did not have.
        """
        given = read_columns(table)
        names = [each.name for each in self.columns]
        missing, unknown = [n for n in names if n not in given.values], [n for n in given.values if n not in names]
        if missing or unknown:
            both = {"without": missing, "with": unknown}
            parts = [f"{what} {', '.join(map(repr, found[:8]))}" for what, found in both.items() if found]
            raise ShapeError(
                f"Got a table {' and '.join(parts)}; expected the columns {shorten(', '.join(names), 300)}. Rename, "
                "add or drop columns; a column of None is one of gaps."
            )
        parts_of_x = [
            each.encoded(_like(each, given.values[each.name], given.text), given.where) for each in self.columns
        ]
        return torch.from_numpy(np.concatenate(parts_of_x, 1))

    def values(self, x: Tensor) -> dict[str, Values]:
        """Returns the columns of x (N, width), the nearest values that they can have; raises ShapeError."""
        if x.dim() != 2 or x.shape[1] != self.width:
            raise ShapeError(f"Got x of shape {tuple(x.shape)}; expected (N, {self.width}), rows of this layout.")
        rows = x.detach().to("cpu", torch.float64).numpy()
        return {each.name: each.decoded(rows[:, self.places()[each.name]]) for each in self.columns}

    def frame(self, x: Tensor, library: Library | None = None) -> Any:  # Any: frames of packages that may be missing
        """Returns x (N, width) as a frame with the names and types of the original one.

        Args:
            x: rows, such as `model.sample(5)` or `model.reconstruct(x)`; categories are the most probable ones.
            library: "pandas", "polars" or "columns"; None for that of the original frame.

        Raises:
            ShapeError: x has another shape.
            MissingExtraError: the package is not installed.
        """
        return self.as_frame(self.values(x), library or self.library)

    def as_frame(self, values: Mapping[str, Values], library: Library) -> Any:  # Any: see `frame`
        """Returns columns of values as a frame of a package, with the types of the original one."""
        types = {each.name: (each.dtype, cast(Sequence[object], each.values)) for each in self.columns}
        return as_frame(values, types, library)


def key_of(value: object) -> tuple[bool, object]:
    """Returns what distinguishes values: True is not 1, but 1.0 is."""
    return isinstance(value, bool), value


def since(moment: date) -> timedelta:
    """Returns the time from 1970 to a date."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    return moment - EPOCH


def _content(column: Column) -> str:
    if column.values:
        shown = ", ".join(map(str, column.values[:4]))
        return f"{shown}, … ({len(column.values)})" if len(column.values) > 4 else shown
    if column.kind == "count":
        return "the count"
    unit = f" {column.unit}s from 1970" if column.unit else ""
    return f"center {column.center:.6g}, scale {column.scale:.6g}{unit}"


def _like(column: Column, values: Values, text: bool) -> Values:
    """Returns values of a file as the column has them: text where its values are texts."""
    if not text:
        return values
    texts = bool(column.values) and all(isinstance(each, str) for each in column.values)
    return values if texts else [None if each is None else parsed_cell(each) for each in values]
