"""Data sets by name."""

import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from vaezoo.core import cache_root, expanded
from vaezoo.data.dataset import Dataset, concatenate
from vaezoo.data.download.cache import Collection, Report, ensure
from vaezoo.data.frames import with_columns
from vaezoo.data.from_tensors import from_tensors
from vaezoo.data.layouts import Layout
from vaezoo.data.readers.image_folder import load_folder
from vaezoo.data.readers.torchvision import load_torchvision
from vaezoo.data.tables.layout import TableLayout
from vaezoo.data.tables.reading import FILES
from vaezoo.data.tables.table import PREFIX, as_table, table
from vaezoo.data.time_series.reading import FILE as SERIES_FILE
from vaezoo.data.time_series.reading import PREFIX as SERIES
from vaezoo.data.time_series.series import as_series, series
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.data.transforms.resize import fit_images
from vaezoo.errors import ConfigError, DataError, UnknownNameError, printable, warn
from vaezoo.registry import Registry

datasets: Final[Registry[Callable[..., Dataset]]] = Registry(
    "data set", group="vaezoo.datasets", package="vaezoo.data.sets"
)
"""Every data set by name: a function of `split`; it may take `cache`, `download` and `choice`, what follows a colon."""

TORCHVISION = {
    each.lower(): each
    for each in ("CelebA", "CIFAR10", "CIFAR100", "EMNIST", "Flowers102", "Food101", "ImageNet", "KMNIST", "LSUN",
                 "Omniglot", "STL10", "SVHN", "USPS")
}  # fmt: skip
"""Data sets of torchvision that a hint names, by their names in lower case without hyphens."""

_RENAMED = {"colour-dsprites": "color-dsprites"}


def load_dataset(
    name: str,
    split: str = "train",
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    memory_limit: int | None = None,
    workers: int | None = None,
    size: int | Sequence[int] | None = None,
    crop: str = "center",
    channels: str | None = None,
    background: str | Sequence[int] | None = None,
    window: int = 0,
    stride: int = 0,
) -> Dataset:
    """Returns a split of a data set: in memory, or streamed for folders and torchvision sets above the memory limit.

    A streamed set (`StreamedDataset`) gives the same values, bit for bit, but decodes its images on demand.

    Args:
        name: A registered name such as `"mnist"` (`datasets.names()` lists them), `"folder:PATH"` for images on disk,
            `"torchvision:NAME"` for a class of `torchvision.datasets`, `"table:FILE.csv"` (or .parquet) for all rows
            of a table, whose kinds of columns are found, see `vaezoo.data.table`, or `"series:FILE.npz"` for all
            series of a file, see `vaezoo.data.series`.
        split: `"train"`, `"test"`, or `"all"` for both; hold a validation set out with `Dataset.split_off`. A folder
            may have a `"validation"` split of its own.
        cache_dir: Folder of the cache; None means `$VAEZOO_HOME`, else `vaezoo` in the user's cache folder.
        download: Whether missing files may be downloaded.
        memory_limit: Bytes of decoded images above which `folder:` and `torchvision:` sets are streamed; None means
            `$VAEZOO_MEMORY_LIMIT`, else 2 GiB.
        workers: Number of processes that read a streamed set ahead of time; None means `$VAEZOO_WORKERS`, else one
            less than the number of cores, at most 8. No result depends on it.
        size: Number of pixels of square images, or height and width; None keeps the size.
        crop: With `size`: `"center"` scales the image to cover the size and crops the middle; `"none"` scales it to fit
            into the size and fills the margins with the background.
        channels: `"gray"`, `"color"`, or None to keep them.
        background: Color behind transparent pixels of files, and of margins: a name such as `"white"`, a code such as
            `"#ff8000"`, or red, green and blue from 0 to 255. None is black.
        window: Length of the windows that series are cut into; 0 for whole series.
        stride: Distance of the starts of windows; 0 for that of `window`.

    Raises:
        ConfigError: `memory_limit` or `workers` is not a non-negative integer, or an option of images is invalid.
        UnknownNameError: Nothing is registered under `name`.
        DataError: The split is unknown, or the data is invalid.
        DownloadError: No source has the files; the message lists each source with its reason.
        MissingExtraError: The data set needs a package that is not installed.
    """
    cache = cache_root(cache_dir)
    options = ImageOptions.of(size=size, crop=crop, channels=channels, background=background)
    scheme, colon, rest = name.partition(":")
    if colon and scheme == "folder":
        return load_folder(expanded(rest), split, options=options, limit=memory_limit, workers=workers)
    if colon and scheme == "table":
        return table(rest, split=split)
    if colon and scheme == "series":
        return series(name, split=split, window=window, stride=stride)
    if window or stride:
        raise ConfigError(f"Got windows ({window}, {stride}) of {printable(name)}; expected series:FILE.npz.")
    if colon and scheme == "torchvision":
        load = partial(
            load_torchvision, rest, options=options, cache=cache, download=download, limit=memory_limit, workers=workers
        )
        return _all_of(load) if split == "all" else load(split)
    if hint := _hint(name):
        raise UnknownNameError("data set", name, datasets.names(), hint)
    function = datasets.get(_current(scheme))
    declared, given = inspect.signature(function).parameters, {"cache": cache, "download": download, "choice": rest}
    if colon and "choice" not in declared:
        raise UnknownNameError("data set", name, datasets.names())
    load = partial(_registered, name, function, {key: value for key, value in given.items() if key in declared})
    return fit_images(_all_of(load) if split == "all" else load(split), options)


def _hint(name: str) -> str:
    """Returns what to write in place of a name that is none of a data set but a folder or a set of torchvision."""
    if ":" not in name and name not in datasets.names() and os.path.isdir(name):
        return f"For the folder of images: 'folder:{name}'."
    if wanted := TORCHVISION.get(name.lower().replace("-", "").replace("_", "")):
        return f"torchvision has it: 'torchvision:{wanted}'."
    if ":" not in name and ("/" in name or "\\" in name or name.startswith("~")):
        return f"A folder of images is 'folder:{printable(name)}'."
    return ""


def _all_of(load: Callable[[str], Dataset]) -> Dataset:
    """Returns the split `"all"` of a set, or its training and test examples if it has no split of this name."""
    with suppress(DataError):
        if (whole := load("all")).split == "all":
            return whole
    return replace(concatenate([load("train"), load("test")]), split="all")


def _registered(name: str, function: Callable[..., Dataset], given: dict[str, object], split: str) -> Dataset:
    dataset: object = function(split, **given)
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"The data set {name!r} returned a {type(dataset).__name__}; expected a vaezoo.data.Dataset. "
            "Make its function return from_tensors(…)."
        )
    return dataset


def as_dataset(
    data: object,
    split: str = "train",
    *,
    options: ImageOptions | None = None,
    image_key: str | None = None,
    beginning: int | None = None,
    workers: int | None = None,
    name: str | None = None,
) -> Dataset:
    """Returns any data that the library accepts as a `Dataset`; every public function that takes data calls it.

    Args:
        data: A name for `load_dataset`, such as `"mnist"` or `"folder:PATH"`; the path of a folder of images as a
            `pathlib.Path`; or data for `from_tensors`.
        split: Split of a named set; the split that other data is.
        options: Size, crop, channels and background of images.
        image_key: See `from_tensors`.
        beginning: See `from_tensors`.
        workers: Number of processes that read data larger than memory ahead of time; see `load_dataset`. None means 0
            for data that is not named.
        name: Name of data that has none, for reports and errors; one of a registered set or with a colon is not used.

    Raises:
        UnknownNameError, DownloadError, MissingExtraError: See `load_dataset`.
        DataError, ShapeError: The data is invalid.
    """
    if isinstance(data, os.PathLike):
        path = os.fspath(data)
        data = f"{PREFIX if path.endswith(FILES) else SERIES if path.endswith(SERIES_FILE) else 'folder:'}{path}"
    if isinstance(data, str):
        return load_dataset(data, split, workers=workers, **(options or ImageOptions()).facts())
    found = from_tensors(
        data,
        name if name and ":" not in name and not is_registered(name) else "tensors",
        split=split,
        image_key=image_key,
        options=options,
        beginning=beginning,
        workers=workers or 0,
    )
    return fit_images(found, options or ImageOptions())


def in_layout(
    data: object, split: str, name: str | None, layout: Layout | None, columns: Sequence[str] | None = None
) -> object:
    """Returns tables and series in the layout of a model's training data as a `Dataset`; other data unchanged.

    Args:
        data: as for `as_dataset`; names "table:FILE" and "series:FILE", and data frames.
        split: the split that it is.
        name: of a table that has none.
        layout: of the training data; None leaves frames as they are, with the columns of the training data.
        columns: names of these columns; None for data without names.
    """
    if isinstance(layout, TableLayout):
        return as_table(data, split, name, layout)
    return with_columns(data, columns) if layout is None else as_series(data, split, layout)


def download_dataset(
    name: str, *, cache_dir: str | os.PathLike[str] | None = None, report: Report | None = None
) -> list[Path]:
    """Downloads and verifies all files of a data set, and returns their paths in the cache.

    A set without files of its own (`digits`, most plug-ins) is loaded once, which downloads what it needs; the list is
    then empty.

    Args:
        name: A registered name.
        cache_dir: As in `load_dataset`.
        report: Called with one line for each source that was tried, such as `print`; None logs them at debug level.

    Raises:
        UnknownNameError: Nothing is registered under `name`.
        DownloadError: No source has a verified copy.
    """
    module = None if ":" in name else inspect.getmodule(datasets.get(_current(name)))
    collection = getattr(module, "COLLECTION", None)
    if isinstance(collection, Collection):
        return ensure(collection, cache=cache_root(cache_dir), report=report)
    load_dataset(name, cache_dir=cache_dir)
    return []


def is_registered(name: str) -> bool:
    """Returns whether `load_dataset` has a registered set of this name, which may be a former one."""
    return name in _RENAMED or name in datasets.names()


def _current(name: str) -> str:
    """Returns the name under which a data set is registered now; warns about a former name."""
    if name not in _RENAMED:
        return name
    warn(f"The data set {name} is now called {_RENAMED[name]}; the old name works until 0.3.", DeprecationWarning)
    return _RENAMED[name]
