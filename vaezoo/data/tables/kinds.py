"""The kinds of a table's columns, found from their values."""

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any, Literal, cast

import msgspec
import numpy as np

from vaezoo.data.tables.frames import CATEGORY, ENUM, ORDERED, Values
from vaezoo.data.tables.layout import (
    FAMILIES,
    KINDS,
    MOST_BYTES,
    UNITS,
    Category,
    Column,
    Kind,
    TableLayout,
    key_of,
    since,
)
from vaezoo.data.tables.reading import Columns, parsed_column
from vaezoo.errors import ConfigError, DataError, did_you_mean, shorten

Standardize = Literal["mean", "quantiles"]

LARGEST_COUNT = 10_000  # of whole numbers that are counts by default
MOST_TEXTS = 100  # different texts of a category by default
SKEWED = 1.0  # skewness above which numbers are modeled by their logarithms
NORMAL_IQR = 1.3489795003921634  # the interquartile range of a standard normal


def find_layout(
    given: Columns, kinds: Mapping[str, str], families: Mapping[str, str], standardize: Standardize
) -> TableLayout:
    """Returns the layout of columns; see `vaezoo.data.table`."""
    for option, table in (("kinds", kinds), ("families", families)):
        for name in table:
            if name not in given.values:
                raise ConfigError(
                    f"Got {option} of an unknown column {shorten(name)}.{did_you_mean(name, given.values)} Columns: "
                    f"{shorten(', '.join(given.values), 300)}."
                )
    if standardize not in ("mean", "quantiles"):
        raise ConfigError(f"Got standardize = {shorten(standardize)}; expected 'mean' or 'quantiles'.")
    columns = []
    for name, texts in given.values.items():
        values, dtype = parsed_column(texts) if given.text else (texts, given.types[name])
        if given.text and kinds.get(name) in ("category", "flag") and dtype != "bool":
            values, dtype = texts, "str"
        declared = _declared(values, given.categories.get(name))
        columns.append(_column(name, values, dtype, declared, kinds.get(name), families.get(name), standardize))
    try:
        layout = TableLayout(columns=tuple(columns), library=given.library)
        plain = msgspec.convert(msgspec.to_builtins(layout), TableLayout, strict=True)
    except (ValueError, msgspec.ValidationError) as error:
        raise DataError(f"Got a table that no layout describes: {error}. Rename, drop or convert the column.") from None
    _check_size(plain)
    return plain


def _check_size(layout: TableLayout) -> None:
    """Raises DataError if a model's config cannot hold the layout."""
    texts = [each.name for each in layout.columns] + [
        value for each in layout.columns for value in each.values if isinstance(value, str)
    ]
    if odd := [text for text in texts if not text.isprintable() or len(text) > 100]:
        raise DataError(
            f"Got {shorten(odd[0])} as a name or category; expected at most 100 printable characters. Rename it, or "
            "drop the column."
        )
    if (size := len(json.dumps(msgspec.to_builtins(layout)))) > MOST_BYTES:
        raise DataError(
            f"Got a table whose names and categories take {size:,} bytes; expected at most {MOST_BYTES:,}. Drop "
            "columns, or join rare categories."
        )


def _declared(values: Values, categories: Values | None) -> Values | None:
    """Returns the categories that a type declares, in their order; of many those alone that have rows.

    None for a type that declares none or other ones than texts, numbers and truth values, and for a column of gaps.
    """
    if not categories or not all(isinstance(each, str | int | float) for each in categories):
        return None
    found = set(values) - {None}
    if not found:
        return None
    return categories if len(categories) <= MOST_TEXTS else [each for each in categories if each in found]


def _column(
    name: str,
    values: Values,
    dtype: str,
    declared: Values | None,
    kind: str | None,
    family: str | None,
    standardize: Standardize,
) -> Column:
    known = [each for each in values if each is not None]
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"Got kind {shorten(kind)} of column {name!r}; expected one of {', '.join(KINDS)}.")
    found = kind_of(name, known) if declared is None else "flag" if len(declared) == 2 else "category"
    chosen = cast(Kind, kind or found)
    choices = FAMILIES[chosen]
    if family is not None and family not in choices:
        raise ConfigError(
            f"Got family {shorten(family)} of column {name!r}, a {chosen}; expected one of {', '.join(choices)}. Set "
            "kinds= as well for that of another kind."
        )
    facts: dict[str, Any] = {}
    if chosen == "date" and not any(isinstance(each, datetime) for each in known):
        dtype = "date"
    if chosen in ("category", "flag"):
        facts["values"] = _categories(name, known, chosen, declared)
    elif chosen != "count":
        facts = _scales(name, known, chosen, standardize)
    if "values" not in facts and dtype in (CATEGORY, ORDERED, ENUM):
        dtype = "object"
    return Column(name=name, kind=chosen, dtype=dtype, family=family or choices[0], **facts)


def kind_of(name: str, known: Values) -> Kind:
    """Returns the kind of a column from its observed values.

    Two different texts, truth values, or 0 and 1 alone are a flag; other texts a category; whole numbers from 0 to
    10,000 a count, others an integer. Numbers above 0 are positive if their skewness is above 1 and above that of their
    logarithms.

    Raises:
        DataError: there is no value, or the values are of several types or of none that is known.
    """
    types = {bool if isinstance(each, bool) else _base(each) for each in known}
    if len(types) != 1 or None in types:
        found = "no value" if not types else f"values of type {', '.join(sorted({type(e).__name__ for e in known}))}"
        raise DataError(
            f"Got {found} in column {name!r}; expected numbers, texts, truth values or dates. Drop the column, or "
            "convert it."
        )
    if types == {str}:
        return _kind_of_texts(name, known)
    if types != {float}:
        return "flag" if types == {bool} else "date"
    numbers = np.array(known, dtype=np.float64)
    if not np.isfinite(numbers).all():
        return "number"  # whose encoding raises the error
    if set(numbers.tolist()) == {0.0, 1.0}:
        return "flag"
    if (numbers == numbers.round()).all():
        return "count" if numbers.min() >= 0 and numbers.max() <= LARGEST_COUNT else "integer"
    skewed = numbers.min() > 0 and _skew(numbers) > max(SKEWED, _skew(np.log(numbers)))
    return "positive" if skewed else "number"


def _base(value: object) -> type | None:
    return next(
        (kind for kind, own in ((float, int | float), (str, str), (date, date)) if isinstance(value, own)), None
    )


def _kind_of_texts(name: str, known: Values) -> Kind:
    different = len(set(known))
    if different > MOST_TEXTS:
        raise DataError(
            f"Got {different:,} different texts in column {name!r}; expected at most {MOST_TEXTS}. Drop the column if "
            f"it names rows; join rare categories; or pass kinds={{{name!r}: 'category'}} to confirm."
        )
    return "flag" if different == 2 else "category"


def _skew(numbers: "np.ndarray[Any, np.dtype[np.float64]]") -> float:
    deviations = numbers - numbers.mean()
    spread = float(np.sqrt((deviations**2).mean()))
    return 0.0 if spread == 0.0 else abs(float((deviations**3).mean())) / spread**3


def _categories(name: str, known: Values, kind: str, declared: Values | None) -> tuple[Category, ...]:
    """Returns the categories in the order of their elements of x: that of a type that declares them, or sorted."""
    found = {key_of(each): each for each in known}
    if declared is None and kind == "flag" and known and all(isinstance(each, bool) for each in known):
        return False, True
    try:
        values = declared or sorted(found.values(), key=lambda each: (isinstance(each, str), each))
    except TypeError:
        values = []
    if not values or not all(isinstance(each, str | int | float) for each in values):
        raise DataError(f"Got no texts, numbers or truth values in column {name!r}; expected them for a {kind}.")
    if kind == "flag" and len(values) != 2:
        raise DataError(
            f"Got {len(values)} different values in column {name!r}; expected 2 for a flag. Use a category."
        )
    return tuple(values)


def _scales(name: str, known: Values, kind: Kind, standardize: Standardize) -> dict[str, Any]:
    """Returns center and scale, and the unit of dates."""
    if kind == "date":
        if not known or not all(isinstance(each, date) for each in known):
            raise DataError(f"Got values in column {name!r} that are no dates; expected dates, such as 2024-05-31.")
        if any(isinstance(each, datetime) and each.tzinfo is not None for each in known):
            raise DataError(f"Got times with a time zone in column {name!r}; expected none. Convert them to UTC first.")
        spans = [since(each) for each in known]
        unit = next(key for key, length in UNITS.items() if all(each % length == timedelta() for each in spans))
        return {"unit": unit, **_center_and_scale(np.array([each / UNITS[unit] for each in spans]), True, standardize)}
    numbers = np.array([float(each) if isinstance(each, int | float) else np.nan for each in known])
    fits = np.isfinite(numbers) & (numbers > 0 if kind == "positive" else True)
    if not fits.all() or not known:
        return {}  # the encoding raises the error, which names the row
    if kind == "positive":
        logs = np.log(numbers)
        return {"scale": float(np.exp(logs.mean() if standardize == "mean" else np.median(logs)))}
    return _center_and_scale(numbers, kind == "integer", standardize)


def _center_and_scale(
    numbers: "np.ndarray[Any, np.dtype[np.float64]]", whole: bool, standardize: Standardize
) -> dict[str, Any]:
    low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75])
    center, scale = (numbers.mean(), numbers.std()) if standardize == "mean" else (middle, (high - low) / NORMAL_IQR)
    center = center.round() if whole else center
    return {"center": float(center), "scale": float(scale if scale > 0 else numbers.std()) or 1.0}
