"""The layouts of tables and series: what x holds, and the maps between x and data in their own units."""

from collections.abc import Mapping

import msgspec

from vaezoo.data.tables.layout import TableLayout
from vaezoo.data.time_series.layout import SeriesLayout

Layout = TableLayout | SeriesLayout


def layout_of(model: object) -> Layout | None:
    """Returns the layout of the table or series on which a model was trained, from its config; None for others."""
    data = (getattr(model, "config", None) or {}).get("data")
    known = data if isinstance(data, Mapping) else {}
    if known.get("table") is not None:
        return msgspec.convert(known["table"], TableLayout, strict=True)
    return None if known.get("series") is None else msgspec.convert(known["series"], SeriesLayout, strict=True)
