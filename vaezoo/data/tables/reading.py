"""Tables in files, data frames and dicts of columns, as lists of Python values."""

import csv
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from vaezoo.core import expanded, require
from vaezoo.data.frames import is_frame
from vaezoo.data.tables.frames import COLUMNS, Library, Values, frame_columns, library_of, values_of
from vaezoo.errors import DataError, ShapeError, shorten

FILES: Final = (".csv", ".tsv", ".parquet")
GAPS: Final = ("", "nan", "none", "null")  # texts of a gap in a file, in lower case

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_ZEROS = re.compile(r"[+-]?0\d+")  # 007: a code, not a number
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?")
_ARROW = {
    "double": "float64", "float": "float32", "string": "str", "large_string": "str", "date32[day]": "date",
}  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Args:
        values: by name, None for gaps; of one length.
        types: the name of each column's type.
        where: the description of a row in errors.
        library: of a frame.
        text: whether all values are texts, as in a CSV file.
        categories: the categories that the types of columns declare, in their order.
    """

    values: dict[str, Values]
    types: dict[str, str]
    where: Callable[[int], str] = "row {}".format
    library: Library = COLUMNS
    text: bool = False
    categories: Mapping[str, Values] = field(default_factory=dict)


def read_columns(table: object) -> Columns:
    """Returns the columns of a data frame, a dict of lists, or a file that ends in .csv, .tsv or .parquet.

    Raises:
        DataError: the file cannot be read; a row has too few or too many values; there is no row.
        ShapeError: columns differ in length, have one name or none, or the data is no table.
    """
    if isinstance(table, Columns):
        found = table
    elif isinstance(table, str | os.PathLike):
        found = _read_file(expanded(os.fspath(table).removeprefix("table:")))
    elif is_frame(table):
        columns, types, categories = frame_columns(table)
        found = Columns(columns, types, library=library_of(table), categories=categories)
    elif isinstance(table, Mapping) and table:
        values = {str(name): values_of(column) for name, column in table.items()}
        found = Columns(values, {name: _type_of(column) for name, column in values.items()})
    else:
        raise ShapeError(
            f"Got a table of type {type(table).__name__}; expected a data frame, a dict of columns, or the path of a "
            ".csv or .parquet file."
        )
    lengths = {len(each) for each in found.values.values()}
    if len(lengths) > 1 or "" in found.values:
        raise ShapeError(f"Got columns of {sorted(lengths)} values; expected named columns of one length.")
    if lengths == {0}:
        raise DataError("Got a table without rows; expected at least one.")
    return found


def _read_file(path: Path) -> Columns:
    readers: dict[str, Callable[[Path], Columns]] = {".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"Got the table {path.name}; expected a file that ends in .csv, .tsv or .parquet.")
    try:
        return reader(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Could not read {path}: {error}. Check path, encoding (UTF-8) and quotes.") from None


def _read_csv(path: Path) -> Columns:
    with path.open(encoding="utf-8-sig", newline="") as file:
        start = file.readline()
        file.seek(0)
        rows = csv.reader(file, delimiter=max(",;\t", key=start.count), strict=True)
        names, lines, cells = next(rows, []), list[int](), list[list[str]]()
        for row in _whole_rows(rows, names, path.name):
            lines.append(rows.line_num)
            cells.append(row)
    if not all(names) or len(set(names)) < len(names) or not names:
        raise ShapeError(
            f"{path.name}: got the first line {shorten(names, 300)}; expected different names of columns. "
            "Add or rename them."
        )
    columns = [
        [None if cell.strip().lower() in GAPS else cell for cell in column] for column in zip(*cells, strict=True)
    ]
    values: dict[str, Values] = dict(zip(names, columns or [[] for _ in names], strict=True))
    return Columns(
        values, dict.fromkeys(names, "str"), lambda row: f"row {row} (line {lines[row]} of {path.name})", text=True
    )


def _whole_rows(rows: Iterator[list[str]], names: list[str], file: str) -> Iterator[list[str]]:
    """Yields rows that have a value for each name; raises DataError for another, skips empty lines."""
    for row in rows:
        if row and len(row) != len(names):
            line = getattr(rows, "line_num", 0)
            missing = f"The first column without a value is {names[len(row)]!r}" if len(row) < len(names) else (
                f"The first value without a column is {shorten(row[len(names)])}"
            )  # fmt: skip
            raise DataError(
                f"{file}, line {line}: got {len(row)} values; expected {len(names)}, one for each column. {missing}. "
                "Quote values that contain the separator."
            )
        if row:
            yield row


def _read_parquet(path: Path) -> Columns:
    pyarrow = require("pyarrow.parquet", "'vaezoo[parquet]'", "Reading a .parquet file")
    library: Any = require("pyarrow", "'vaezoo[parquet]'", "Reading a .parquet file")
    try:
        table = pyarrow.read_table(path)
    except library.ArrowException as error:
        raise DataError(
            f"Could not read {path}: {shorten(str(error), 300)}. Check that it is a parquet file."
        ) from None
    types = {field.name: str(field.type) for field in table.schema}
    kinds = {
        name: "datetime64[us]" if "timestamp" in each else _ARROW.get(each, each)[:40] for name, each in types.items()
    }
    return Columns({name: values_of(column) for name, column in table.to_pydict().items()}, kinds)


def parsed_cell(text: str) -> object:
    """Returns a text of a file as a truth value, number or date if it is one, else unchanged."""
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if _NUMBER.fullmatch(word) and not _ZEROS.fullmatch(word):
        return int(word) if word.lstrip("+-").isdigit() else float(word)
    if _DATE.fullmatch(word):
        with suppress(ValueError):
            return datetime.fromisoformat(word) if len(word) > 10 else date.fromisoformat(word)
    return text


def parsed_column(texts: Values) -> tuple[Values, str]:
    """Returns the values of a column of a file and the name of their type; texts unless all are of one type."""
    values = [None if each is None else parsed_cell(each) for each in texts]
    kinds = {type(each) for each in values if each is not None}
    if kinds == {int, float}:
        values = [None if each is None else float(each) for each in values]  # type: ignore[arg-type]  # numbers
        kinds = {float}
    if len(kinds) != 1 or str in kinds:
        return texts, "str"
    return values, _type_of(values)


def _type_of(values: Values) -> str:
    kinds = {type(each) for each in values if each is not None}
    names = {bool: "bool", int: "int64", float: "float64", date: "date", datetime: "datetime64[us]", str: "str"}
    return names.get(kinds.pop(), "object") if len(kinds) == 1 else "float64" if kinds == {int, float} else "object"
