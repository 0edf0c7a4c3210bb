"""Reader of the data sets of torchvision, by class name."""

import difflib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import torch
from torch import Tensor

from vaezoo.core import require
from vaezoo.data.dataset import Dataset
from vaezoo.data.from_tensors import from_tensors
from vaezoo.data.splits import check_split
from vaezoo.data.streaming.dataset import StreamedDataset, stream
from vaezoo.data.streaming.limits import memory_limit, worker_count
from vaezoo.data.streaming.prefetch import read_ahead
from vaezoo.data.tensors import check_alike, check_conditions, item_tensor
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.errors import DataError, DownloadError, UnknownNameError

_PART = 256  # items described at a time


def load_torchvision(
    name: str,
    split: str,
    *,
    cache: Path,
    download: bool,
    options: ImageOptions | None = None,
    limit: int | None = None,
    workers: int | None = None,
) -> Dataset:
    """Returns a split of the data set class `torchvision.datasets.NAME` as `uint8` images (N, C, H, W).

    Targets that are class numbers become labels; others are dropped. torchvision does not record licenses, and verifies
    the files (some of which it unpickles) by its own MD5 sums.

    Args:
        name: Exact name of a class with a `train=` or `split=` argument, such as `"CIFAR10"`.
        split: `"train"` or `"test"`.
        cache: Root of the cache; torchvision's files go to `torchvision/NAME` in it.
        download: Whether torchvision may download missing files.
        options: Size, crop, channels and background of the images; with a size, those of the set may differ.
        limit: See `memory_limit`. One pass over a streamed split collects the targets and validates the images.
        workers: See `worker_count`.

    Raises:
        UnknownNameError: torchvision exports no such data set class.
        DataError: The class has no such split, or needs further arguments.
        DownloadError: The files are missing and could not be downloaded.
        MissingExtraError: torchvision is not installed.
    """
    check_split(f"torchvision:{name}", split)
    module = require("torchvision.datasets", "torchvision", f"The data set torchvision:{name}")
    known = _known(module)
    if name not in known:
        close = difflib.get_close_matches(name.lower(), lower := {each.lower(): each for each in known}, n=1)
        hint = f"Did you mean 'torchvision:{lower[close[0]]}'?" if close else ""
        raise UnknownNameError("torchvision data set", name, known, hint)
    source = _opened(known[name], name, split, cache / "torchvision" / name, download)
    names = getattr(source, "classes", None)
    classes = len(names) if isinstance(names, list | tuple) and names else None
    whole, options = f"torchvision:{name}", options or ImageOptions()
    first = item_tensor(source[0][0], f"{whole}, item 0", options) if len(source) else torch.empty(0)
    images = TorchvisionImages(source, whole, tuple(first.shape), options)
    if first.dtype == torch.uint8 and first.numel() * len(source) > memory_limit(limit):
        return _streamed(images, split, classes, workers)
    return from_tensors(_Labeled(images), whole, split=split, classes=classes, scale=255)


def _opened(entry: type, name: str, split: str, root: Path, download: bool) -> "_Items":
    options = _options(entry, name, split, download)
    try:
        root.mkdir(parents=True, exist_ok=True)
        source: _Items = entry(root, **options)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"torchvision:{name}: got {options}; torchvision expected other arguments ({error}). Create the data "
            "set yourself and pass it to from_tensors."
        ) from error
    except (OSError, RuntimeError, ImportError) as error:
        raise DownloadError(
            f"torchvision:{name}: torchvision could not create the {split} set ({error}); expected its files in {root} "
            f"or permission to download them (download={download}). Put them there by hand, or load the data yourself "
            "and pass it to from_tensors."
        ) from error
    return source


def _known(module: ModuleType) -> dict[str, type]:
    """Returns the exported subclasses of `VisionDataset`; no other object of the module is accessible by name."""
    return {
        name: entry
        for name in module.__all__
        if isinstance(entry := getattr(module, name, None), type)
        and issubclass(entry, module.VisionDataset)
        and entry is not module.VisionDataset
    }


def _options(entry: type, name: str, split: str, download: bool) -> dict[str, object]:
    """Returns the arguments for the split and for downloading."""
    parameters = dict(inspect.signature(entry).parameters)
    parameters.pop("root", None)
    options: dict[str, object] = {}
    if "train" in parameters:
        options = {"train": split == "train"}
    elif "split" in parameters:
        options = {"split": split}
    needed = [key for key, p in parameters.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if not options or set(needed) - set(options):
        raise DataError(
            f"torchvision:{name}: got a class that needs {', '.join(needed) or 'no split'}; expected only "
            "train= or split=. Create the data set yourself and pass it to from_tensors."
        )
    forwards = "train" in parameters and any(p.kind is p.VAR_KEYWORD for p in parameters.values())  # QMNIST to MNIST
    if "download" in parameters or forwards:
        options["download"] = download
    return options


class _Items(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[object, object]: ...


class TorchvisionImages:
    """The images of a torchvision data set, decoded when they are read (an `ImageSource`).

    Args:
        source: The data set.
        name: Name of the set in errors.
        shape: Shape of its images.
        options: Their size, crop, channels and background.
    """

    def __init__(self, source: _Items, name: str, shape: tuple[int, ...], options: ImageOptions) -> None:
        self.source, self.name, self.shape, self.options = source, name, shape, options

    def __len__(self) -> int:
        """Returns the number of items."""
        return len(self.source)

    def item(self, position: int) -> tuple[Tensor, int | None]:
        """Returns an image as `uint8` of shape (C, H, W), and its class number or None.

        Raises:
            DataError: The image cannot be read.
            ShapeError: Its shape or type differs from that of the first one.
        """
        place = f"{self.name}, item {position}"
        try:
            image, target = self.source[position]
            pixels = item_tensor(image, place, self.options)
        except (OSError, SyntaxError, EOFError) as error:
            raise DataError(
                f"{place}: got an image that cannot be read ({error}); expected a whole one. Download it again."
            ) from error
        check_alike(pixels, self.shape, torch.uint8, f"{self.name}: got x", position)
        return pixels, target if isinstance(target, int) else None

    def read(self, positions: Tensor) -> Tensor:
        """Returns the images at `positions` (B,) as `uint8` (B, C, H, W)."""
        return torch.stack([self.item(position)[0] for position in positions.tolist()])

    def labels(self, positions: Sequence[int]) -> list[int]:
        """Returns the class numbers of the images that have one; decodes all of them, which validates them."""
        return [label for _, label in map(self.item, positions) if label is not None]


def _streamed(images: TorchvisionImages, split: str, classes: int | None, workers: int | None) -> StreamedDataset:
    parts = torch.arange(len(images)).split(_PART)
    found = read_ahead(images.labels, parts, workers=worker_count(workers) if len(parts) > 1 else 0)
    labels = [label for part in found for label in part]
    check_conditions(len(images), len(labels), images.name)
    if labels and classes is None:
        classes = max(labels) + 1
    return StreamedDataset(
        name=images.name,
        split=split,
        reader=stream(images),
        labels=torch.tensor(labels) if labels else None,
        classes=classes,
        workers=workers,
    )


class _Labeled(torch.utils.data.IterableDataset[object]):
    """A data set with its class numbers as targets; other targets are dropped."""

    def __init__(self, images: TorchvisionImages) -> None:
        self.images = images

    def __iter__(self) -> Iterator[object]:
        for i in range(len(self.images)):
            image, target = self.images.source[i]
            pixels = item_tensor(image, f"{self.images.name}, item {i}", self.images.options)
            yield (pixels, target) if isinstance(target, int) else pixels
