"""Data sets by name, the `Dataset` record, verified downloads and binarization."""

from vaezoo.data.bundled import bundled_images
from vaezoo.data.dataset import Dataset, concatenate
from vaezoo.data.endless import EndlessDataset
from vaezoo.data.factors import Factors
from vaezoo.data.frames import columns_of, with_columns
from vaezoo.data.from_tensors import from_tensors
from vaezoo.data.layouts import layout_of
from vaezoo.data.load import as_dataset, datasets, download_dataset, in_layout, is_registered, load_dataset
from vaezoo.data.procedural.dataset import DrawnDataset
from vaezoo.data.streaming.dataset import StreamedDataset
from vaezoo.data.streaming.limits import MEMORY_LIMIT
from vaezoo.data.tables.layout import Column, TableLayout
from vaezoo.data.tables.table import as_table, table
from vaezoo.data.time_series.layout import SeriesLayout
from vaezoo.data.time_series.series import as_series, series
from vaezoo.data.transforms.augment import augment, check_augmentation
from vaezoo.data.transforms.binarize import (
    BINARIZATIONS,
    STATIC_SEED,
    TEST_SEED,
    binarize,
    binarize_fixed,
    sample_binary,
)
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.data.transforms.padding import pad
from vaezoo.data.transforms.resize import fit_images
from vaezoo.errors import warn

_RENAMED = {"draw": "sample_binary", "get": "download_dataset", "prepare": "binarize"}

__all__ = [
    "BINARIZATIONS",
    "MEMORY_LIMIT",
    "STATIC_SEED",
    "TEST_SEED",
    "Column",
    "Dataset",
    "DrawnDataset",
    "EndlessDataset",
    "Factors",
    "ImageOptions",
    "SeriesLayout",
    "StreamedDataset",
    "TableLayout",
    "as_dataset",
    "as_series",
    "as_table",
    "augment",
    "binarize",
    "binarize_fixed",
    "bundled_images",
    "check_augmentation",
    "columns_of",
    "concatenate",
    "datasets",
    "download_dataset",
    "fit_images",
    "from_tensors",
    "in_layout",
    "is_registered",
    "layout_of",
    "load_dataset",
    "pad",
    "sample_binary",
    "series",
    "table",
    "with_columns",
]


def __getattr__(name: str) -> object:
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn(f"vaezoo.data.{name} is deprecated and will be removed in 0.3. Use {_RENAMED[name]}.", DeprecationWarning)
    return globals()[_RENAMED[name]]
