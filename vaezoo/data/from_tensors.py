"""Conversion of a user's own data to a `Dataset`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset

from vaezoo.data.checks import warn_of_channels_last
from vaezoo.data.dataset import Dataset, concatenate
from vaezoo.data.endless import EndlessDataset
from vaezoo.data.factors import Factors
from vaezoo.data.frames import frame_tensor, is_frame
from vaezoo.data.indexing import as_indices
from vaezoo.data.items import Example, ItemForm, Repeated, example_of, examples, parts_of, stacked, warn_of_random_items
from vaezoo.data.labels import Words, are_words, numbered
from vaezoo.data.loaders import as_rows, is_plain
from vaezoo.data.streaming.dataset import StreamedDataset
from vaezoo.data.streaming.items import streamed_items
from vaezoo.data.streaming.limits import memory_limit
from vaezoo.data.tensors import as_tensor, check_conditions, stack
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.errors import DataError, ShapeError, warn

_OBJECT = 1_000  # bytes of a tensor beside its values


@dataclass(frozen=True, kw_only=True)
class _Given:
    """The arguments of `from_tensors` beside the data."""

    name: str
    split: str
    classes: int | None
    factors: Factors | None
    scale: int | None
    form: ItemForm
    beginning: int | None
    limit: int | None
    workers: int


def from_tensors(
    data: object,
    name: str = "tensors",
    *,
    split: str = "train",
    classes: int | None = None,
    factors: Factors | None = None,
    scale: int | None = None,
    image_key: str | None = None,
    options: ImageOptions | None = None,
    beginning: int | None = None,
    limit: int | None = None,
    workers: int = 0,
) -> Dataset:
    """Returns a user's own data as a `Dataset`.

    | data | |
    | --- | --- |
    | tensor, array | (N, *shape): `uint8`, boolean or floating |
    | tuple (x, c), dict | x as above, with class numbers (N,), names of classes (N,) or floating vectors (N, C) |
    | data frame | numeric columns, `float32` (N, D) |
    | list | images or rows of one size: Pillow images, tensors, arrays, pairs (x, c), dicts |
    | map-style `torch.utils.data.Dataset`, or any object with a length and items by index | as a list; above the memory limit it is streamed |
    | `IterableDataset` | read to its end, or see `beginning` |
    | `DataLoader` | its data set, if the loader only batches and shuffles; else its batches, as an `IterableDataset` |
    | `vaezoo.data.Dataset` | unchanged; a `Subset` or `ConcatDataset` of such sets keeps labels, names and factors |

    Args:
        data: One of these.
        name: Name of the set in reports and errors.
        split: `"train"`, `"validation"` or `"test"`.
        classes: Number of classes; None means one more than the largest class number.
        factors: Ground-truth factors of the images, such as `Factors.of(values, names)`.
        scale: The `uint8` value that represents 1.0: 255 for pixels, 1 for binary images. None means 1 for boolean
            images and 255 for others, but 1 with a warning for `uint8` images whose largest value is 1.
        image_key: Key of x in items that are dicts; None for the only key, or one such as "image" or "pixel_values".
        options: Size and channels of images that come one by one, such as Pillow images of several sizes.
        beginning: Number of examples to read from an iterable data set without a length; a training reads the others
            when it needs them (`EndlessDataset`). None reads it to its end.
        limit: Bytes above which items by index are streamed and an iterable data set is refused; see `memory_limit`.
        workers: Number of processes that read streamed items ahead of time.

    Raises:
        DataError: The data is empty, not finite or out of range, masked, or does not end.
        ShapeError: The data has an unsupported form, type or shape.
    """  # noqa: E501  (the table)
    given = _Given(
        name=name, split=split, classes=classes, factors=factors, scale=scale,
        form=ItemForm(image_key, options or ImageOptions()), beginning=beginning, limit=limit, workers=workers,
    )  # fmt: skip
    if (own := _own(data)) is not None:
        return own
    if isinstance(data, DataLoader):
        data = data.dataset if is_plain(data) else as_rows(data, name, image_key)
    if isinstance(data, Subset) and hasattr(data.dataset, "__len__"):  # whose indices may be a mask
        data = Subset(data.dataset, as_indices(data.indices, len(data.dataset), name).tolist())
    if isinstance(data, tuple) and len(data) == 2 and _is_array(data[0]) and not _fits(data[0], limit):
        data = _Pairs(*data)
    if _is_whole(data, limit):
        return _in_memory(*_whole(data, given), given)
    by_index = hasattr(data, "__len__") and hasattr(data, "__getitem__") and not isinstance(data, IterableDataset)
    if by_index and not isinstance(data, str | bytes | tuple):
        return _of_items(cast(Sequence[object], data), given)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | tuple):
        return _of_iterable(data, given)
    form = f"tuple of {len(data)}" if isinstance(data, tuple) else type(data).__name__
    raise ShapeError(
        f"{name}: got a {form}; expected a tensor or array (N, *shape), a tuple (x, c) of two, a list "
        "of images, a data frame, a torch data set or a DataLoader. as_dataset takes names, such as 'mnist', too."
    )


class _Pairs:
    """Rows of an array larger than memory, such as a memory map, with their conditions."""

    def __init__(self, x: Sequence[object], c: Sequence[object]) -> None:
        self.x, self.c = x, c

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[object, object]:
        return self.x[index], self.c[index]


def _own(data: object) -> Dataset | None:
    """Returns the `Dataset` of which `data` is a part, a concatenation or a loader, or None."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, DataLoader) and is_plain(data):
        return _own(data.dataset)
    if isinstance(data, Subset) and (whole := _own(data.dataset)) is not None:
        return whole.subset(data.indices)
    if isinstance(data, ConcatDataset):
        parts = [found for each in data.datasets if (found := _own(each)) is not None]
        return concatenate(parts) if len(parts) == len(data.datasets) else None
    return None


def _is_array(data: object) -> bool:
    """Returns whether data is a tensor, an array, or is on disk and has the methods of an array (h5py, zarr)."""
    return all(hasattr(data, each) for each in ("shape", "dtype", "__getitem__")) and not is_frame(data)


def _fits(data: Any, limit: int | None) -> bool:
    """Returns whether an array is in memory already, or is on disk and within the memory limit."""
    if isinstance(data, Tensor) or (isinstance(data, np.ndarray) and not isinstance(data, np.memmap)):
        return True
    return bool(math.prod(data.shape) * np.dtype(data.dtype).itemsize <= memory_limit(limit))


def _is_whole(data: object, limit: int | None) -> bool:
    """Returns whether data holds all examples in one array, frame, dict of these, or tuple (x, c)."""
    if _is_array(data):
        return _fits(data, limit)
    return is_frame(data) or isinstance(data, Mapping) or (isinstance(data, tuple) and len(data) == 2)


def _whole(data: object, given: _Given) -> tuple[Tensor, Tensor | Words | None]:
    """Returns x (N, …) and the condition of all examples."""
    x, c = (data, None) if is_frame(data) else parts_of(data, given.name, given.form.image_key)
    if is_frame(x):
        images = frame_tensor(x, given.name)
    elif _is_array(x):
        images = as_tensor(x, given.name)
    elif isinstance(x, Sequence) and not isinstance(x, str):
        images = stack([found for found, _ in examples(x, given.name, given.form)], "x", given.name)
    else:
        raise ShapeError(
            f"{given.name}: got a {type(data).__name__} whose x is a {type(x).__name__}; expected a tensor, an array, "
            "a data frame or a list of images."
        )
    c = c.to_numpy() if hasattr(c, "to_numpy") else c  # a column of a data frame
    return images, list(cast(Words, c)) if are_words(c) else None if c is None else as_tensor(c, given.name)


def _of_items(data: Sequence[object], given: _Given) -> Dataset:
    """Returns items by index: in memory, or streamed above the memory limit."""
    check_conditions(len(data), 0, given.name)
    first, _ = example_of(data[0], f"{given.name}, item 0", given.form)
    if not isinstance(data, list) and first.nbytes * len(data) > memory_limit(given.limit):
        warn_of_channels_last(first.shape, given.name)
        reader, condition = streamed_items(data, given.name, given.form, first, given.workers)
        return StreamedDataset(
            name=given.name,
            split=given.split,
            reader=reader,
            **_conditions(condition, given),
            scale=given.scale or (1 if first.dtype == torch.bool else 255),
            factors=given.factors,
            workers=given.workers,
        )
    if isinstance(data, torch.utils.data.Dataset):
        warn_of_random_items(data, given.name, given.form)
    # By index up to the length: a map-style data set need not raise IndexError at its end.
    found = list(examples((data[i] for i in range(len(data))), given.name, given.form))
    return _in_memory(*stacked(found, given.name), given)


def _of_iterable(data: Iterable[object], given: _Given) -> Dataset:
    """Returns the items of an iterable: all in memory, or the beginning of one without a length."""
    size = _length(data)
    if given.beginning is not None and size is None:
        source = Repeated(data, given.name, given.form)
        start = list(islice(source.once(), given.beginning + 1))
        known = _in_memory(*stacked(start[: given.beginning], given.name), given)
        if len(start) <= given.beginning:
            return known  # it has ended
        return EndlessDataset(source=source, **{each.name: getattr(known, each.name) for each in fields(known)})
    found, taken, most = list[Example](), 0, memory_limit(given.limit)
    for x, c in examples(data, given.name, given.form):
        found.append((x, c))
        taken += x.nbytes + _OBJECT
        if taken > most and size is None:
            raise DataError(
                f"{given.name}: got an iterable data set that has not ended after {len(found):,} items of {taken:,} "
                "bytes; expected its end within the memory limit. Train with train.steps, which reads only what it "
                "needs; pass a part, such as list(itertools.islice(data, 1000)); or set VAEZOO_MEMORY_LIMIT, in bytes."
            )
    return _in_memory(*stacked(found, given.name), given)


def _length(data: object) -> int | None:
    try:
        return len(data)  # type: ignore[arg-type]  # may have none
    except TypeError:
        return None


def _in_memory(images: Tensor, condition: Tensor | Words | None, given: _Given) -> Dataset:
    scale = given.scale
    warn_of_channels_last(images.shape[1:], given.name)
    if images.dtype == torch.bool:
        images, scale = images.to(torch.uint8), 1 if scale is None else scale
    return Dataset(
        name=given.name,
        split=given.split,
        images=images,
        **_conditions(condition, given),
        scale=_scale_of(images, given.name) if scale is None else scale,
        factors=given.factors,
    )


def _conditions(condition: Tensor | Words | None, given: _Given) -> dict[str, Any]:
    """Returns labels, context, number and names of the classes; the number is that stated, or else of the labels."""
    names, classes = None, given.classes
    if condition is not None and not isinstance(condition, Tensor):
        condition, names = numbered(condition, given.name)
        classes = len(names)
    labels, context = _condition(condition, given.name)
    if labels is not None and classes is None and labels.numel():
        classes = int(labels.max()) + 1
        if int(labels.min()) == 1:
            warn(
                f"{given.name}: got labels from 1 to {classes - 1}, which are {classes} classes with none of number 0. "
                "Subtract 1 if they are numbered from 1, or pass classes= to confirm."
            )
    return {"labels": labels, "context": context, "classes": classes, "class_names": names}


def _scale_of(images: Tensor, name: str) -> int:
    """Returns 1, with a warning, for `uint8` images whose largest value is 1, which may be binary or dark; else 255."""
    if images.dtype != torch.uint8 or images.numel() == 0 or int(images.max()) != 1:
        return 255
    warn(
        f"{name}: got uint8 images whose largest value is 1; they are treated as binary (scale=1). If they are dark "
        "images of 0 to 255, or to confirm, pass from_tensors(x, scale=255) or scale=1."
    )
    return 1


def _condition(condition: Tensor | None, name: str) -> tuple[Tensor | None, Tensor | None]:
    """Returns labels (integers) and context (floating vectors), one of them None."""
    if condition is None:
        return None, None
    if condition.is_floating_point() and condition.ndim == 2:
        return None, condition
    if condition.ndim == 1 and not condition.is_floating_point() and condition.dtype != torch.bool:
        return condition.to(torch.int64), None
    raise ShapeError(
        f"{name}: got a condition of type {condition.dtype} and shape {tuple(condition.shape)}; expected integer class "
        "numbers (N,) or floating vectors (N, C). Use .long() for classes, or .float().reshape(N, C) for vectors."
    )
