"""Data sets by name."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vaezoo.data.dataset import Dataset
from vaezoo.data.download.cache import Collection, Report, cache_root, ensure
from vaezoo.data.readers.image_folder import load_folder
from vaezoo.data.readers.torchvision import load_torchvision
from vaezoo.errors import DataError
from vaezoo.registry import Registry

datasets: Final[Registry[Callable[..., Dataset]]] = Registry(
    "data set", group="vaezoo.datasets", package="vaezoo.data.sets"
)
"""Every data set by name: a function `(split, *, cache, download) -> Dataset`."""


def load_dataset(
    name: str,
    split: str = "train",
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    memory_limit: int | None = None,
    workers: int | None = None,
) -> Dataset:
    """Returns a split of a data set: in memory or, where it is a larger folder or torchvision set, streamed.

    A streamed set (`StreamedDataset`) answers like one in memory, bit for bit, but decodes its images on demand.

    Args:
        name: A registered name such as `"mnist"` (`datasets.names()` lists them), `"folder:PATH"` for images on disk,
            or `"torchvision:NAME"` for a class of `torchvision.datasets`.
        split: `"train"` or `"test"`; hold a validation set out with `Dataset.split_off`.
        cache_dir: Where files are kept; None means `$VAEZOO_HOME`, else `vaezoo` in the user's cache folder.
        download: Whether missing files may be fetched.
        memory_limit: Bytes of decoded images above which `folder:` and `torchvision:` sets are streamed; None means
            `$VAEZOO_MEMORY_LIMIT`, else 2 GiB.
        workers: How many processes read a streamed set ahead of time; None means `$VAEZOO_WORKERS`, else one less
            than there are cores, at most 8. No result depends on it.

    Raises:
        ConfigError: A limit or a number of workers is no whole number.
        UnknownNameError: Nothing is registered under `name`.
        DataError: The split is unknown, or the data is not what it should be.
        DownloadError: The files could not be had; the message lists each source with its reason.
        MissingExtraError: The data set needs a package that is not installed.
    """
    cache = cache_root(cache_dir)
    scheme, colon, rest = name.partition(":")
    if colon and scheme == "folder":
        return load_folder(Path(rest).expanduser(), split, limit=memory_limit, workers=workers)
    if colon and scheme == "torchvision":
        return load_torchvision(rest, split, cache=cache, download=download, limit=memory_limit, workers=workers)
    dataset: object = datasets.get(name)(split, cache=cache, download=download)
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"The data set {name!r} returned a {type(dataset).__name__}; expected a vaezoo.data.Dataset. "
            "Make its function return from_tensors(…)."
        )
    return dataset


def download_dataset(
    name: str, *, cache_dir: str | os.PathLike[str] | None = None, report: Report | None = None
) -> list[Path]:
    """Fetches and verifies all files of a data set, and returns their paths in the cache.

    A set without files of its own (`digits`, most plug-ins) is loaded once instead, which has it fetch what it needs;
    the list is then empty.

    Args:
        name: A registered name.
        cache_dir: As in `load_dataset`.
        report: Called with one line for each source tried and its result, such as `print`; None logs them.

    Raises:
        UnknownNameError: Nothing is registered under `name`.
        DownloadError: No source brought a verified copy.
    """
    collection = _collection(name)
    if collection is not None:
        return ensure(collection, cache=cache_root(cache_dir), report=report)
    dataset = load_dataset(name, cache_dir=cache_dir)
    if report is not None:
        report(f"{name}: {len(dataset):,} training examples; there are no files of its own in the cache")
    return []


def _collection(name: str) -> Collection | None:
    """Returns the `COLLECTION` of the module that defines the data set, if it has one."""
    if ":" in name:
        return None
    collection = getattr(inspect.getmodule(datasets.get(name)), "COLLECTION", None)
    return collection if isinstance(collection, Collection) else None
