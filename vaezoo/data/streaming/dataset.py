"""`StreamedDataset`: a data set larger than memory, whose images are decoded on demand."""

import hashlib
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vaezoo.core import add_to_digest
from vaezoo.data.dataset import Dataset
from vaezoo.data.indexing import Indices, as_indices
from vaezoo.data.streaming.limits import worker_count
from vaezoo.data.streaming.prefetch import read_ahead
from vaezoo.data.transforms.fixed_noise import binarized, check_probabilities
from vaezoo.errors import DataError

_SURVEY_BYTES = 1 << 22


class ImageSource(Protocol):
    """Source of the images of a streamed set, all of one shape, validated when it is created.

    A source of other types than `uint8` has an attribute `dtype`, and one whose images are random `varies = True`.
    """

    shape: tuple[int, ...]

    def __len__(self) -> int:
        """Returns the number of images."""

    def read(self, positions: Tensor) -> Tensor:
        """Returns the images at `positions` (B,), `uint8` or the source's `dtype`, of shape (B, *shape).

        Raises:
            DataError: An image cannot be read or has changed; the message names it.
        """


@dataclass(frozen=True, kw_only=True)
class FixedDraw:
    """A static binarization: the places of the images' noise in the stream of `seed`."""

    seed: int
    scale: int
    places: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """Decodes images of a source; sent to worker processes.

    Args:
        source: Source of the images.
        positions: Positions in the source of the set's images, in order: (N,), `int64`, on the CPU.
        drawn: Their static binarization, or None.
    """

    source: ImageSource
    positions: Tensor
    drawn: FixedDraw | None = None

    def __call__(self, indices: Sequence[int]) -> Tensor:
        """Returns the images at `indices`, of shape (B, *shape); raises DataError if they are not finite."""
        chosen = list(indices)
        images = self.source.read(self.positions[chosen])
        if images.is_floating_point() and not bool(images.isfinite().all()):
            first = chosen[int((~images.isfinite()).flatten(1).any(1).nonzero()[0])]
            raise DataError(f"Got NaN or infinite values in example {first}; expected finite numbers. Remove it.")
        if self.drawn is None:
            return images
        check_probabilities(images, "the set")
        return binarized(images, self.drawn.scale, self.drawn.seed, self.drawn.places[chosen].tolist())

    @property
    def dtype(self) -> torch.dtype:
        """The type of the images."""
        return getattr(self.source, "dtype", torch.uint8) if self.drawn is None else torch.uint8

    def select(self, index: Tensor) -> "Reader":
        """Returns the reader of the images at `index` (M,), in that order; each keeps its noise."""
        drawn = None if self.drawn is None else replace(self.drawn, places=self.drawn.places[index])
        return replace(self, positions=self.positions[index], drawn=drawn)


# Results of `survey`; copies of a set that have the same images share their reader.
_SURVEYS: "WeakKeyDictionary[Reader, tuple[hashlib._Hash, Tensor]]" = WeakKeyDictionary()


def survey(reader: Reader, workers: int) -> "tuple[hashlib._Hash, Tensor]":
    """Returns SHA-256 over type, shape and bytes of all images, and the histogram of `uint8` pixel values (256,)."""
    if reader not in _SURVEYS:
        count, shape = len(reader.positions), reader.source.shape
        total = hashlib.sha256(f"images:{reader.dtype}:{(count, *shape)};".encode())
        counts = torch.zeros(256, dtype=torch.int64)
        parts = torch.arange(count).split(max(1, _SURVEY_BYTES // math.prod(shape)))
        for images in read_ahead(reader, parts, workers=workers if len(parts) > 1 else 0):
            total.update(images.contiguous().flatten().view(torch.uint8).numpy().data)
            if images.dtype == torch.uint8:
                counts += images.flatten().bincount(minlength=256)
        _SURVEYS[reader] = total, counts
    return _SURVEYS[reader]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class StreamedDataset(Dataset):
    """A split of a data set whose images are decoded when a batch needs them.

    Gives the same values as a `Dataset` of the same images, bit for bit, except that `images` is a tensor on device
    "meta", with shape and type but no values. Labels and context are in memory.

    Args:
        reader: Decodes the images, `uint8` or floating.
        device: Device of the batches.
        workers: Number of processes that read ahead; None means `$VAEZOO_WORKERS`, else one less than the number of
            cores, at most 8. No result depends on it.

    Raises:
        DataError, ShapeError: See `Dataset`; or, while reading, an image cannot be read.
    """

    images: Tensor = field(init=False)
    reader: Reader
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int | None = None

    def __post_init__(self) -> None:
        """Validates labels and context."""
        shape = (len(self.reader.positions), *self.reader.source.shape)
        object.__setattr__(self, "images", torch.empty(shape, dtype=self.reader.dtype, device="meta"))
        super().__post_init__()

    @cached_property
    def digest(self) -> str:
        """SHA-256, the same as in memory; takes one pass over the images, which detects damaged files.

        If the images are random (see `ImageSource`), it covers their number, shape and type instead of their values.
        """
        if getattr(self.reader.source, "varies", False):
            total = hashlib.sha256(f"random:{self.images.dtype}:{tuple(self.images.shape)};".encode())
            add_to_digest(total, positions=self.reader.positions, labels=self.labels, context=self.context)
            return total.hexdigest()
        total = survey(self.reader, worker_count(self.workers))[0].copy()
        add_to_digest(total, labels=self.labels, context=self.context)
        return total.hexdigest()

    def levels(self) -> Tensor:
        """Returns the distinct values of all pixels, (V,); shares the pass of `digest`."""
        counts = survey(self.reader, worker_count(self.workers))[1]
        return counts.nonzero().flatten().to(self.device, torch.float32) / self.scale

    def _rows(self, indices: Tensor) -> Tensor:
        return self._floats(self.reader(indices.tolist()))

    def batches(self, indices: Iterable[Tensor]) -> Generator[Tensor, None, None]:
        """Yields `batch(each)` for each of `indices`; worker processes read ahead."""
        pinned = self.device.type == "cuda"
        checked = (as_indices(each, len(self), self.name) for each in indices)
        for images in read_ahead(self.reader, checked, workers=worker_count(self.workers), pinned=pinned):
            yield self._floats(images)

    def subset(self, indices: Indices) -> Self:
        """Returns the examples at `indices`, in that order; see `Dataset.subset`."""
        index = as_indices(indices, len(self), self.name).cpu()
        return replace(self, reader=self.reader.select(index), **self._selected(index))

    def to(self, device: torch.device | str) -> Self:
        """Returns the set with labels, context and batches on `device`."""
        return replace(self, device=torch.device(device), **self._beside(lambda each: each.to(device)))

    def drawn_once(self, seed: int) -> Self:
        """Returns the set binarized once, with the same bits as in memory; see `binarize_fixed`."""
        if self.reader.drawn is not None:  # already binary
            return self
        drawn = FixedDraw(seed=seed, scale=self.scale, places=torch.arange(len(self)))
        return replace(self, reader=replace(self.reader, drawn=drawn), scale=1, binarization="static")

    def _joined_with(self, sets: Sequence[Dataset], **beside: Any) -> Dataset:
        """Returns a streamed set of the examples of all sets."""
        return StreamedDataset(
            reader=stream(Chain(sets)),
            split=sets[0].split,
            binarization=self.binarization,
            scale=self.scale,
            device=self.device,
            workers=self.workers,
            **beside,
        )

    def _floats(self, images: Tensor) -> Tensor:
        moved = images.to(self.device, non_blocking=True)
        return moved.to(torch.float32) if moved.is_floating_point() else moved.to(torch.float32).div_(self.scale)

    def _check_images(self) -> None:
        """Does nothing: the source has validated the images."""


class Chain:
    """The images of several sets, one set after another (an `ImageSource`).

    Args:
        sets: Sets of the same shape and type, in memory or streamed.
    """

    def __init__(self, sets: Sequence[Dataset]) -> None:
        self.shape, self.dtype = sets[0].shape, sets[0].images.dtype
        self._read: list[Callable[[list[int]], Tensor]] = [
            each.reader if isinstance(each, StreamedDataset) else each.images.cpu().__getitem__ for each in sets
        ]
        self._ends = torch.tensor([len(each) for each in sets]).cumsum(0)

    def __len__(self) -> int:
        """Returns the number of images of all sets."""
        return int(self._ends[-1])

    def read(self, positions: Tensor) -> Tensor:
        """Returns the images at `positions` (B,), (B, *shape)."""
        images = torch.empty(len(positions), *self.shape, dtype=self.dtype)
        owners = torch.bucketize(positions, self._ends, right=True)
        for owner in owners.unique().tolist():
            own = owners == owner
            first = int(self._ends[owner - 1]) if owner else 0
            images[own] = self._read[owner]((positions[own] - first).tolist())
        return images


def stream(source: ImageSource) -> Reader:
    """Returns the reader of all images of a source."""
    return Reader(source=source, positions=torch.arange(len(source)))
