"""The data sets of torchvision, by the name of their class."""

import difflib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Protocol

import torch

from vaezoo.data.extras import require
from vaezoo.data.record import Dataset
from vaezoo.data.splits import check_split
from vaezoo.data.tensors import from_tensors
from vaezoo.errors import DataError, DownloadError, UnknownNameError


def load_torchvision(name: str, split: str, *, cache: Path, download: bool) -> Dataset:
    """Returns a split of the data set class `torchvision.datasets.NAME` as `uint8` images (N, C, H, W).

    Targets that are class numbers become labels; others are left out. The licence is the data set's own, which
    torchvision does not record; torchvision checks the files (some of which it unpickles) by its own MD5 sums.

    Args:
        name: The exact name of a class with a `train=` or `split=` argument, such as `"CIFAR10"`.
        split: `"train"` or `"test"`.
        cache: The cache's root; torchvision's files go to `torchvision/NAME` in it.
        download: Whether torchvision may fetch what is missing.

    Raises:
        UnknownNameError: torchvision exports no such data set class.
        DataError: The class has no such split, or needs arguments of its own.
        DownloadError: The files are missing and could not be fetched.
        MissingExtraError: torchvision is not installed.
    """
    check_split(f"torchvision:{name}", split)
    module = require("torchvision.datasets", "torchvision", f"The data set torchvision:{name}")
    known = _known(module)
    if name not in known:
        close = difflib.get_close_matches(name.lower(), lower := {each.lower(): each for each in known}, n=1)
        hint = f"Did you mean 'torchvision:{lower[close[0]]}'?" if close else ""
        raise UnknownNameError("torchvision data set", name, known, hint)
    root = cache / "torchvision" / name
    options = _options(known[name], name, split, download)
    try:
        root.mkdir(parents=True, exist_ok=True)
        source = known[name](root, **options)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"torchvision:{name}: got {options}; torchvision expected other arguments ({error}). Make the data set "
            "yourself and pass it to from_tensors."
        ) from error
    except (OSError, RuntimeError, ImportError) as error:
        raise DownloadError(
            f"torchvision:{name}: torchvision could not make the {split} set ({error}); expected its files in {root}, "
            f"or a way to fetch them (download={download}). Put them there by hand, or load the data yourself and pass "
            "it to from_tensors."
        ) from error
    return from_tensors(_Labelled(source), f"torchvision:{name}", split=split, classes=_class_count(source))


def _known(module: ModuleType) -> dict[str, type]:
    """Returns the exported subclasses of `VisionDataset`: nothing else of the module can be reached by name."""
    return {
        name: entry
        for name in module.__all__
        if isinstance(entry := getattr(module, name, None), type)
        and issubclass(entry, module.VisionDataset)
        and entry is not module.VisionDataset
    }


def _options(entry: type, name: str, split: str, download: bool) -> dict[str, object]:
    """Returns the arguments that choose the split and say whether to download."""
    parameters = dict(inspect.signature(entry).parameters)
    parameters.pop("root", None)
    options: dict[str, object] = {}
    if "train" in parameters:
        options = {"train": split == "train"}
    elif "split" in parameters:
        options = {"split": split}
    needed = [
        key
        for key, parameter in parameters.items()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if not options or set(needed) - set(options):
        raise DataError(
            f"torchvision:{name}: got a class that needs {', '.join(needed) or 'no split'}; expected one that is "
            "chosen by train= or split= alone. Make the data set yourself and pass it to from_tensors."
        )
    forwards = "train" in parameters and any(p.kind is p.VAR_KEYWORD for p in parameters.values())  # QMNIST to MNIST
    if "download" in parameters or forwards:
        options["download"] = download
    return options


def _class_count(source: object) -> int | None:
    classes = getattr(source, "classes", None)
    return len(classes) if isinstance(classes, list | tuple) and classes else None


class _Items(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[object, object]: ...


class _Labelled(torch.utils.data.IterableDataset[object]):
    """A data set whose targets are class numbers or absent."""

    def __init__(self, source: _Items) -> None:
        self.source = source

    def __iter__(self) -> Iterator[object]:
        for i in range(len(self.source)):
            image, target = self.source[i]
            yield (image, target) if isinstance(target, int) else image
