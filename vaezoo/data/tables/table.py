"""`table`: rows with columns of several kinds and gaps as a `Dataset`."""

import os
from collections.abc import Mapping
from dataclasses import replace

import torch

from vaezoo.data.dataset import Dataset
from vaezoo.data.frames import is_frame
from vaezoo.data.from_tensors import from_tensors
from vaezoo.data.tables.kinds import Standardize, find_layout
from vaezoo.data.tables.layout import TableLayout
from vaezoo.data.tables.reading import Columns, read_columns
from vaezoo.errors import ConfigError, DataError, did_you_mean, shorten

PREFIX = "table:"


def table(
    source: object,
    name: str | None = None,
    *,
    split: str = "train",
    kinds: Mapping[str, str] | None = None,
    families: Mapping[str, str] | None = None,
    standardize: Standardize = "mean",
    labels: str | None = None,
    layout: TableLayout | None = None,
) -> Dataset:
    """Returns a table as a `Dataset` whose `layout` maps its rows to frames; train the likelihood `mixed` on it.

    Args:
        source: a data frame of pandas or polars; a dict of lists; or the path of a .csv or .parquet file. None, NaN and
            empty values are gaps, which are NaN in x.
        name: name of the set; None for that of the file, or "table".
        split: the split that it is.
        kinds: of columns for which another kind is found than is meant: "number", "positive", "integer", "count",
            "category", "flag" or "date".
        families: of columns whose distribution shall be another one of their kind: "student-t" of numbers, "poisson" of
            counts.
        standardize: "mean" centers numbers at their mean and divides them by their standard deviation; "quantiles"
            takes the median, and the interquartile range divided by that of a normal.
        labels: the column of classes, which is then the context and not in x.
        layout: of the training rows, for further rows; kinds, families and standardize are then not used.

    Raises:
        DataError: the file cannot be read, a row is ragged, a value does not fit its column.
        ShapeError: columns are missing, unknown or of one name.
        ConfigError: an unknown column, kind or family.
        MissingExtraError: a .parquet file without pyarrow.
    """
    given, classes = _without(read_columns(source), labels)
    found = layout or find_layout(given, kinds or {}, families or {}, standardize)
    if name is None:
        name = f"{PREFIX}{os.path.basename(source)}" if isinstance(source, str | os.PathLike) else "table"
    rows = Dataset(name=name, split=split, images=found.tensor(given), layout=found)
    return rows if classes is None else _with_condition(rows, classes)


def _without(given: Columns, labels: str | None) -> tuple[Columns, list[str] | None]:
    """Returns the columns without that of the classes, and the names of the classes of all rows."""
    if labels is None:
        return given, None
    if labels not in given.values:
        raise ConfigError(f"Got labels = {shorten(labels)}; expected a column.{did_you_mean(labels, given.values)}")
    classes = given.values[labels]
    if None in classes:
        raise DataError(f"Got a gap in the labels {labels!r}, {given.where(classes.index(None))}; expected classes.")
    rest = {key: values for key, values in given.values.items() if key != labels}
    return replace(given, values=rest), list(map(str, classes))


def as_table(data: object, split: str, name: str | None = None, layout: TableLayout | None = None) -> object:
    """Returns frames, tuples (frame, c) and names "table:FILE" as a `Dataset`, see `table`; other data unchanged."""
    if isinstance(data, str) and data.startswith(PREFIX):
        return table(data.removeprefix(PREFIX), split=split, layout=layout)
    if is_frame(data):
        return table(data, name, split=split, layout=layout)
    if isinstance(data, tuple) and len(data) == 2 and is_frame(data[0]):
        return _with_condition(table(data[0], name, split=split, layout=layout), data[1])
    return data


def _with_condition(rows: Dataset, c: object) -> Dataset:
    """Returns rows with class numbers, names of classes or vectors as their context."""
    beside = from_tensors((torch.zeros(len(rows), 1), c), rows.name, split=rows.split)
    return replace(beside, images=rows.images, layout=rows.layout)
