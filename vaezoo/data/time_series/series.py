"""`series`: one-dimensional series of varying length as a `Dataset`."""

import os
from collections.abc import Sized
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from vaezoo.core import whole_number
from vaezoo.data.dataset import Dataset
from vaezoo.data.from_tensors import from_tensors
from vaezoo.data.time_series.layout import SeriesLayout, fitted_layout
from vaezoo.data.time_series.reading import PREFIX, labels_of, read_series, windows_of
from vaezoo.errors import ConfigError, DataError, ShapeError


def series(
    source: object,
    name: str | None = None,
    *,
    split: str = "train",
    window: int = 0,
    stride: int = 0,
    labels: object = None,
    layout: SeriesLayout | None = None,
) -> Dataset:
    """Returns series as a `Dataset` of x (N, C, T), padded to the longest with NaN; its `layout` maps x back.

    Each channel is centered at the mean of its observed values and divided by their standard deviation. NaN marks gaps;
    it has no effect on any figure of a model whose likelihood has `gaps = true`, which a training sets.

    Args:
        source: the path of a .npz file without Python objects: one array (N, T) or (N, C, T); or one array (T,) or
            (C, T) for each series, of any length; or `values` (N, T) or (N, C, T) with `lengths` (N,); and `labels`
            (N,) if there are classes. Or such an array, a list of arrays (t,) or (C, t), or a dict of them.
        name: name of the set; None for that of the file, or "series".
        split: the split that it is.
        window: the length of windows that each series is cut into; 0 for whole series. The last window of a series
            reaches its end, and is padded.
        stride: the distance of the starts of windows; 0 for `window`, so that they do not overlap.
        labels: class numbers (N,), names (N,) or vectors (N, C) of the series, the context of a conditional model; None
            for those of the file.
        layout: of the training series, for further series; window and stride are then those of the layout.

    Raises:
        DataError: the file cannot be read or holds Python objects; a series is empty, infinite or too long.
        ShapeError: arrays of other shapes or types, or another number of labels.
        ConfigError: window or stride is no whole number of at least 0, or a stride without a window.
    """
    given = read_series(source)
    found = layout or fitted_layout(given.values, *_windows(window, stride))
    for label, each in zip(given.names, given.values, strict=True):
        found.check_shape(each.shape, f"Series {label!r}")
    cut = [windows_of(each, found.window, found.stride) if found.window else [each] for each in given.values]
    counts = [len(each) for each in cut]
    name = _name_of(source) if name is None else name
    x = found.tensor([part for parts in cut for part in parts])
    groups = torch.arange(len(cut)).repeat_interleave(torch.tensor(counts)) if found.window else None
    rows = Dataset(name=name, split=split, images=x, layout=found, groups=groups)
    classes = given.labels if labels is None else labels
    if classes is None:
        return rows
    if len(cast(Sized, classes)) != len(counts):
        raise ShapeError(f"{name}: got {len(cast(Sized, classes))} labels for {len(counts)} series; expected one each.")
    beside = from_tensors((torch.zeros(len(rows), 1), labels_of(classes, counts)), name, split=split)
    return replace(beside, images=x, layout=found, groups=groups)


def as_series(data: object, split: str, layout: SeriesLayout) -> object:
    """Returns series as a `Dataset` in the layout of a model: "series:FILE", a list of arrays, or x (N, C, T).

    Arrays of a list are in the units of the series; a tensor is standardized already. Other data are unchanged.

    Raises:
        DataError: a `Dataset` of series has another layout.
    """
    if isinstance(data, str | os.PathLike) and os.fspath(data).startswith(PREFIX):
        return series(data, split=split, layout=layout)
    if isinstance(data, list):
        return series(data, split=split, layout=layout)
    if isinstance(data, Tensor) and tuple(data.shape[1:]) == layout.shape:
        return Dataset(name="series", split=split, images=data, layout=layout)
    if isinstance(data, Dataset) and isinstance(data.layout, SeriesLayout) and data.layout != layout:
        raise DataError(
            f"{data.name}: got series that were scaled or cut in another way than the training data. Make the set with "
            "vaezoo.data.series(…, layout=…), the layout of the training data: vaezoo.data.layout_of(model)."
        )
    return data


def _windows(window: object, stride: object) -> tuple[int, int]:
    """Returns length and distance of windows, 0 and 0 for whole series; raises ConfigError."""
    length, distance = (whole_number(each, what, 0, 2**28) for each, what in ((window, "window"), (stride, "stride")))
    if distance and not length:
        raise ConfigError(f"Got stride = {distance} without a window; expected window = the length of windows.")
    return length, distance or length


def _name_of(source: object) -> str:
    """Returns "series:FILE" without folders, or "series" for data that are no file."""
    if not isinstance(source, str | os.PathLike):
        return "series"
    return f"{PREFIX}{os.path.basename(os.fspath(source).removeprefix(PREFIX))}"
