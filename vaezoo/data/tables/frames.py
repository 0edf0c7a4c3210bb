"""Data frames of pandas and polars as lists of Python values, and back; the packages are imported when needed."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from vaezoo.core import require
from vaezoo.errors import ConfigError, ShapeError, shorten

Values = list[Any]  # of a column: numbers, texts, booleans or dates, None for a gap
Library = Literal["columns", "pandas", "polars"]
COLUMNS: Final = "columns"
CATEGORY: Final = "category"  # the name of the type of pandas, and that of one whose categories are ordered
ORDERED: Final = "ordered category"
ENUM: Final = "Enum"  # of polars

_WIDTHS = r"(8|16|32|64)"
_PANDAS = re.compile(
    rf"(u?int{_WIDTHS}|float(32|64)|U?Int{_WIDTHS}|Float(32|64)|bool|boolean|str|string|object|datetime64\[(s|ms|us|ns)\])"
)
_POLARS = re.compile(rf"(U?Int{_WIDTHS}|Float(32|64)|Boolean|String|Categorical|Date)")
_POLARS_NAMES = {"bool": "Boolean", "boolean": "Boolean", "str": "String", "string": "String", "date": "Date"}


def library_of(frame: object) -> Library:
    """Returns the package of a data frame; "columns" for others."""
    name = type(frame).__module__.partition(".")[0]
    return "pandas" if name == "pandas" else "polars" if name == "polars" else "columns"


def values_of(column: Any) -> Values:
    """Returns the values of a column, None for those that are missing: None, NaN, NaT, NA or an empty text."""
    found = column.to_list() if hasattr(column, "to_list") else list(column)
    return [None if is_gap(each) else _plain(each) for each in found]


def _plain(value: Any) -> object:
    """Returns a `datetime` for a pandas.Timestamp; other values unchanged."""
    return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value


def is_gap(value: object) -> bool:
    """Returns whether a value is missing."""
    try:
        return value is None or bool(value == "") or bool(value != value)  # NaN and NaT
    except TypeError:
        return True  # NA of pandas, which has no truth value


def frame_columns(frame: Any) -> tuple[dict[str, Values], dict[str, str], dict[str, Values]]:
    """Returns the columns of a data frame, the names of their types, and the categories that types declare, in order.

    Raises:
        ShapeError: two columns have one name, or there is none.
    """
    names = list(map(str, frame.columns))
    if len(set(names)) < len(names) or not names:
        raise ShapeError(f"Got a data frame with the columns {shorten(names)}; expected different names. Rename them.")
    columns = [frame[key] for key in frame.columns]
    values, types = map(values_of, columns), (_type_name(each.dtype) for each in columns)
    declared = ((name, getattr(each.dtype, "categories", None)) for name, each in zip(names, columns, strict=True))
    categories = {
        name: [each for each in found.to_list() if not is_gap(each)]
        for name, found in declared
        if found is not None and hasattr(found, "to_list")
    }
    return dict(zip(names, values, strict=True)), dict(zip(names, types, strict=True)), categories


def _type_name(dtype: Any) -> str:
    name = re.sub(r"\(.*", "", str(dtype))[:40]
    return ORDERED if name == CATEGORY and dtype.ordered else name


def as_frame(
    columns: Mapping[str, Values], types: Mapping[str, tuple[str, Sequence[object]]], library: Library
) -> Any:  # Any: frames of packages that may be missing
    """Returns columns as a frame of a package; `types` has for each the name of its type, and its categories."""
    if library == COLUMNS:
        return dict(columns)
    if library == "pandas":
        pandas = require("pandas", "pandas", "A frame of pandas")
        series = {name: _pandas_series(pandas, values, *types[name]) for name, values in columns.items()}
        return pandas.DataFrame(series)
    if library != "polars":
        raise ConfigError(f"Got library = {shorten(library)}; expected 'columns', 'pandas' or 'polars'.")
    polars = require("polars", "polars", "A frame of polars")
    return polars.DataFrame([_polars_series(polars, name, columns[name], *types[name]) for name in columns])


def _pandas_series(pandas: Any, values: Values, dtype: str, categories: Sequence[object]) -> Any:
    if dtype in (CATEGORY, ORDERED):
        return pandas.Series(pandas.Categorical(values, categories=list(categories), ordered=dtype == ORDERED))
    if not _PANDAS.fullmatch(dtype):
        return pandas.Series(values, dtype=object if dtype == "date" else None)
    if None in values and re.fullmatch(rf"u?int{_WIDTHS}", dtype):  # which has no gaps
        dtype = dtype.replace("i", "I").replace("u", "U")
    return pandas.Series(values, dtype="boolean" if None in values and dtype == "bool" else dtype)


def _polars_series(polars: Any, name: str, values: Values, dtype: str, categories: Sequence[object]) -> Any:
    if dtype == ENUM:
        return polars.Series(name, values, dtype=polars.Enum(list(categories)))
    if dtype.lower().startswith("datetime"):
        return polars.Series(name, values, dtype=polars.Datetime("us"))
    found = _POLARS_NAMES.get(dtype, dtype.replace("uint", "UInt").replace("int", "Int").replace("float", "Float"))
    return polars.Series(name, values, dtype=getattr(polars, found) if _POLARS.fullmatch(found) else None)
