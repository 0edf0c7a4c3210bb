"""`torch.utils.data.DataLoader` as a source of examples."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
)

from vaezoo.data.items import parts_of
from vaezoo.data.labels import are_words
from vaezoo.data.tensors import as_tensor
from vaezoo.errors import ShapeError


def is_plain(loader: "DataLoader[Any]") -> bool:
    """Returns whether a loader only batches and shuffles, so that its data set has the same examples."""
    return loader.collate_fn is default_collate and _takes_all(loader)


def _takes_all(loader: "DataLoader[Any]") -> bool:
    """Returns whether a loader takes every item of a map-style data set once, in any order."""
    data, sampler = loader.dataset, loader.sampler
    if isinstance(data, IterableDataset) or type(loader.batch_sampler) is not BatchSampler:
        return False
    shuffles = isinstance(sampler, RandomSampler) and not sampler.replacement and sampler.num_samples == len(data)  # type: ignore[arg-type]  # map-style
    return isinstance(sampler, SequentialSampler) or shuffles


class Rows:
    """The examples of the batches of a loader, one by one; a map-style data set is read in its own order, unshuffled.

    Args:
        loader: Yields x, (x, c) or dicts of tensors (B, …).
        name: Name of the set in errors.
        image_key: See `parts_of`.
    """

    def __init__(self, loader: "DataLoader[Any]", name: str, image_key: str | None) -> None:
        self.loader, self.name, self.image_key = loader, name, image_key

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, object]]:
        """Yields x or (x, c)."""
        for number, batch in enumerate(self._batches()):
            place = f"{self.name}, batch {number}"
            given, condition = parts_of(batch, place, self.image_key)
            x = as_tensor(given, place)
            c: Any = condition if condition is None or are_words(condition) else as_tensor(condition, place)
            if x.ndim == 0 or (c is not None and (np.ndim(c) == 0 or len(c) != len(x))):
                raise ShapeError(f"{place}: got a batch without rows; expected tensors (B, …) from the loader.")
            yield from x if c is None else zip(x, c, strict=True)

    def _batches(self) -> Iterator[object]:
        if not _takes_all(self.loader):
            yield from self.loader
            return
        data: Any = self.loader.dataset
        for places in torch.arange(len(data)).split(self.loader.batch_size or 1):
            yield self.loader.collate_fn([data[i] for i in places.tolist()])


class SizedRows(Rows):
    """`Rows` of a loader with a known number of batches, which ends."""

    def __len__(self) -> int:
        """Returns the number of batches; only whether there is one matters."""
        return len(self.loader)


def as_rows(loader: "DataLoader[Any]", name: str, image_key: str | None) -> Rows:
    """Returns the examples of a loader; with a length if the loader has one."""
    try:
        len(loader)
    except TypeError:
        return Rows(loader, name, image_key)
    return SizedRows(loader, name, image_key)
