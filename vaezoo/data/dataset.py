"""`Dataset`: a split of a data set, held in memory and validated once."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Self, overload

import numpy as np
import torch
from torch import Tensor

from vaezoo.core import add_to_digest, rows_at_once, whole_number, whole_seed
from vaezoo.data.checks import check_type
from vaezoo.data.factors import Factors
from vaezoo.data.indexing import Indices, as_indices, is_single
from vaezoo.data.layouts import Layout
from vaezoo.errors import DataError, ShapeError

MOST_CLASSES: Final = 100_000
"""Largest number of classes: models take a class as a vector with one element for each."""

Item = Tensor | tuple[Tensor, int | Tensor]
"""One example: x, or (x, c) of a set with context vectors or labels."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dataset(torch.utils.data.Dataset[Any]):
    """A split of a data set as tensors in memory, and a map-style `torch.utils.data.Dataset`.

    Pixels stay `uint8` (MNIST takes 47 MB, not 188 MB); `batch` converts one batch at a time to floats. `d[3]` is one
    example: x (*shape), `float32`, or (x, c) of a set with context vectors or labels, c a vector (C,) or the class
    number. `d[:10]`, `d[mask]`, `d[[3, 1]]` and `d[array]` are `d.subset(…)`; `d + other` has the examples of both.

    Args:
        name: Name of the data set, as in `load_dataset(name)`.
        split: `"train"`, `"test"`, or `"validation"` for examples held out by `split_off`.
        images: Examples of shape (N, *shape): `uint8`, or any floating type. Tabular data is (N, D).
        labels: Class numbers of shape (N,), `int64`, each in [0, classes), or -1 where unknown; or None.
        context: Floating vectors of shape (N, C) for conditional models, or None.
        classes: Number of classes; required with labels, since a split may lack some classes.
        class_names: Their names, or None.
        licence: License of the images, in one line.
        binarization: `"none"`, `"dynamic"` (to be sampled for each batch) or `"static"` (sampled once).
        scale: The `uint8` value that represents 1.0: 255, or 1 for binary images. Floating images are not scaled.
        factors: Ground-truth factors of the images, for disentanglement metrics, or None; never an input of a model.
        names: Name of each example, such as its file in a folder, (N,), or None.
        layout: Columns of a table with several kinds of columns, see `table`, or channels of series, see `series`; NaN
            is then a gap. None for other data.
        groups: Number of the source of each example, such as the series that a window was cut from, (N,) `int64`, or
            None; `split_off` does not separate the examples of one source.

    Raises:
        DataError: The set is empty or not finite, or labels or pixels are out of range.
        ShapeError: A tensor has the wrong type, number of dimensions or length.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor | None = None
    context: Tensor | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    licence: str = ""
    binarization: str = "none"
    scale: int = 255
    factors: Factors | None = None
    names: Sequence[str] | None = None
    layout: Layout | None = None
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        """Validates the fields."""
        self._check_images()
        if self.labels is not None:
            self._check_labels(self.labels)
        if self.context is not None:
            self._check_context(self.context)
        if self.groups is not None and (self.groups.dtype != torch.int64 or self.groups.shape != (len(self),)):
            raise ShapeError(
                f"{self.name}: got groups of type {self.groups.dtype} and shape {tuple(self.groups.shape)}; expected "
                f"int64 and ({len(self)},), one number for each example."
            )
        if self.factors is not None and len(self.factors) != len(self):
            raise ShapeError(
                f"{self.name}: got factors of {len(self.factors)} examples; expected one row for each of {len(self)}."
            )
        if self.names is not None:
            object.__setattr__(self, "names", tuple(map(str, self.names)))
            if len(self.names) != len(self):
                raise ShapeError(
                    f"{self.name}: got {len(self.names)} names; expected one for each of {len(self)} examples."
                )

    def __repr__(self) -> str:
        """Returns one line: name, split, number, shape and type of the examples, and what else there is."""
        also = [f"{self.classes} classes"] * (self.labels is not None)
        also += [] if self.context is None else [f"context of width {self.context.shape[1]}"]
        also += [] if self.factors is None else [f"{len(self.factors.names)} factors"]
        also += [f"{self.binarization} binarization"] * (self.binarization != "none")
        kind, dtype = type(self).__name__, str(self.images.dtype).removeprefix("torch.")
        facts = ", ".join([f"{len(self):,} examples {self.shape} {dtype}", *also])
        return f"{kind}({self.name!r}, {self.split}: {facts})"

    def __len__(self) -> int:
        """Returns N, the number of examples."""
        return self.images.shape[0]

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: Indices) -> Self: ...

    def __getitem__(self, index: int | Indices) -> "Item | Self":
        """Returns the example at one index, or the subset at several; raises DataError out of range."""
        return self.__getitems__([int(index)])[0] if is_single(index) else self.subset(index)  # type: ignore[arg-type]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Returns the examples at `indices`; `torch.utils.data.DataLoader` fetches a batch by it."""
        index = as_indices(indices, len(self), self.name)
        return self._items(index, self.batch(index))

    def __iter__(self) -> Iterator[Item]:
        """Yields the examples in order."""
        parts = torch.arange(len(self)).split(rows_at_once(self.shape))
        for index, x in zip(parts, self.batches(parts), strict=True):
            yield from self._items(index, x)

    def __add__(self, other: "torch.utils.data.Dataset[Any]") -> "torch.utils.data.Dataset[Any]":  # type: ignore[override]
        """Returns the examples of both sets, see `concatenate`; with another torch data set, a `ConcatDataset`."""
        if isinstance(other, Dataset):
            return concatenate([self, other])
        return torch.utils.data.ConcatDataset([self, other])

    def _items(self, index: Tensor, x: Tensor) -> list[Item]:
        if self.context is not None:
            return list(zip(x, self.context[index.to(self.context.device)], strict=True))
        if self.labels is not None:
            return list(zip(x, self.labels[index.to(self.labels.device)].tolist(), strict=True))
        return list(x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, such as (1, 28, 28)."""
        return tuple(self.images.shape[1:])

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) over type, shape and bytes of images, labels and context."""
        total = hashlib.sha256()
        add_to_digest(total, images=self.images, labels=self.labels, context=self.context)
        return total.hexdigest()

    def levels(self) -> Tensor:
        """Returns the distinct values of all pixels of `uint8` images as `batch` gives them, (V,), ascending."""
        counts = torch.zeros(256, dtype=torch.int64, device=self.images.device)
        for part in self.images.split(rows_at_once(self.shape, 1_000)):
            counts += part.flatten().bincount(minlength=256)
        return counts.nonzero().flatten().to(torch.float32) / self.scale

    def batch(self, indices: Indices) -> Tensor:
        """Returns the examples at `indices` as `float32` of shape (B, *shape), `uint8` scaled to [0, 1].

        Args:
            indices: Integers (B,), a boolean mask (N,), or a slice.

        Raises:
            DataError: Nothing is selected, or an index is out of range.
        """
        return self._rows(as_indices(indices, len(self), self.name))

    def _rows(self, indices: Tensor) -> Tensor:
        # index_select copies whole examples; indexing by a tensor is many times slower on a CPU.
        images = self.images.index_select(0, indices.to(self.images.device)).to(torch.float32)
        # Division, not multiplication by 1/255: 255 becomes exactly 1.
        return images if self.images.is_floating_point() else images.div_(self.scale)

    def batches(self, indices: Iterable[Tensor]) -> Generator[Tensor, None, None]:
        """Yields `batch(each)` for each of `indices`, on demand; `indices` may be infinite."""
        # Indices on another device are those of the trainer; to read their range would block it.
        for each in indices:
            yield self.batch(each) if each.device.type == "cpu" else self._rows(each)

    def subset(self, indices: Indices) -> Self:
        """Returns the examples at `indices`, in that order.

        Args:
            indices: Integers (M,), M ≥ 1, in which negative ones count from the end; a boolean mask (N,); or a slice.

        Raises:
            DataError: Nothing is selected, an index is out of range, or a mask has another length.
        """
        index = as_indices(indices, len(self), self.name).to(self.images.device)
        return replace(self, images=self.images[index], **self._selected(index))

    def split_off(self, count: int, seed: int) -> tuple[Self, Self]:
        """Holds out `count` examples, chosen by `seed`; both parts keep the order of the set.

        Of a set with `groups`, whole groups are held out, such as all windows of a series, until they have at least
        `count` examples.

        Args:
            count: Number of examples to hold out, 1 ≤ count < N.
            seed: The same seed holds out the same examples on every platform and library version.

        Returns:
            The rest, with this set's split, and the held-out part, with split `"validation"`.

        Raises:
            DataError: `count` leaves one of the two parts empty.
        """
        count = whole_number(count, "count", -(2**63), error=DataError)
        if not 0 < count < len(self):
            raise DataError(
                f"{self.name}: got {count} examples to hold out; expected 1 to {len(self) - 1}, as the set has "
                f"{len(self)}. Hold out fewer (`validation` in a recipe), or use a larger data set."
            )
        order = stable_permutation(len(self), seed)
        if self.groups is not None:
            order, count = self._by_group(self.groups.cpu().numpy(), count, seed)
        held_out, rest = np.sort(order[:count]), np.sort(order[count:])
        return self.subset(torch.from_numpy(rest)), replace(self.subset(torch.from_numpy(held_out)), split="validation")

    def _by_group(
        self, groups: "np.ndarray[Any, np.dtype[np.int64]]", count: int, seed: int
    ) -> tuple["np.ndarray[Any, np.dtype[np.intp]]", int]:
        """Returns an order of the examples by groups, and the number of the first of whole groups, `count` or more."""
        names, group = np.unique(groups, return_inverse=True)
        rank = np.argsort(stable_permutation(len(names), seed))
        sizes = np.bincount(rank[group]).cumsum()
        held = int(sizes[np.searchsorted(sizes, count)])
        if held == len(self):
            raise DataError(
                f"{self.name}: got {count} examples to hold out of {len(names)} series; expected one series at least "
                "in both parts, since the windows of a series are not separated. Choose a smaller validation set."
            )
        return np.argsort(rank[group], kind="stable"), held

    def hide_labels(self, count: int, seed: int) -> Self:
        """Returns the set with `count` labels, balanced over classes to within one, and -1 for the other examples.

        Args:
            count: Number of labels to keep, at least one of each class.
            seed: Chooses the examples; the same on every platform and library version.

        Raises:
            DataError: There are no labels, too few of one class, or `count` is below the number of classes; or the set
                has context vectors.
        """
        if self.labels is None or self.classes is None or self.context is not None:
            got = "no labels" if self.context is None else "context vectors, in which labels cannot be hidden"
            raise DataError(f"{self.name}: got {got}; expected class numbers. Use a set with labels (N,) alone.")
        count = whole_number(count, "count", 0, error=DataError)
        order = torch.from_numpy(stable_permutation(len(self), seed)).to(self.labels.device)
        shuffled, labels = self.labels[order], torch.full_like(self.labels, -1)
        for label in range(self.classes):
            kept = count // self.classes + (label < count % self.classes)
            chosen = order[shuffled == label][:kept]
            if not 0 < kept == len(chosen):
                raise DataError(
                    f"{self.name}: got {count} labels to keep, {kept} of class {label}; expected at least one of "
                    f"each of the {self.classes} classes, and there are {int((shuffled == label).sum())} of this one."
                )
            labels[chosen] = label
        return replace(self, labels=labels)

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Returns the set with its images (N, *shape) changed by a function of any number of them."""
        return replace(self, images=change(self.images))

    def to(self, device: torch.device | str) -> Self:
        """Returns the set with its tensors on `device`."""
        return replace(self, images=self.images.to(device), **self._beside(lambda each: each.to(device)))

    def _beside(self, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
        """Returns labels, context and groups, changed."""
        tensors = {"labels": self.labels, "context": self.context, "groups": self.groups}
        return {key: None if each is None else change(each) for key, each in tensors.items()}

    def _selected(self, index: Tensor) -> dict[str, Any]:
        """Returns labels, context, factors and names of the examples at `index`."""
        factors = None if self.factors is None else self.factors.subset(index)
        names = None if self.names is None else [self.names[i] for i in index.tolist()]
        return {"factors": factors, "names": names, **self._beside(lambda each: each[index.to(each.device)])}

    def _joined_with(self, sets: Sequence["Dataset"], **beside: Any) -> "Dataset":
        """Returns one set of the images of all sets, with other fields of it; `self` is one of the sets."""
        return replace(self, images=torch.cat([each.images.to(self.images.device) for each in sets]), **beside)

    def _check_images(self) -> None:
        images = self.images
        check_type(images, self.name)
        if images.ndim < 2 or images.numel() == 0:
            raise DataError(
                f"{self.name}: got images of shape {tuple(images.shape)}; expected (N, *shape) with at least one "
                "example and one pixel. Check that the source has data, and add a first dimension if it is missing."
            )
        check_finite(images, "images", self.name, gaps=self.layout is not None)
        if images.dtype == torch.uint8 and int(images.max()) > self.scale:
            raise DataError(
                f"{self.name}: got a pixel of {int(images.max())}; expected at most scale = {self.scale}. "
                "Pass scale=255 for gray or color images."
            )

    def _check_labels(self, labels: Tensor) -> None:
        if self.class_names is not None and len(self.class_names) != self.classes:
            raise DataError(
                f"{self.name}: got {len(self.class_names)} names of classes with classes={self.classes}; expected one "
                "name for each class."
            )
        if self.classes is not None and self.classes > MOST_CLASSES:
            raise DataError(
                f"{self.name}: got {self.classes:,} classes; expected at most {MOST_CLASSES:,}. If the labels are "
                "identifiers, number them first: torch.unique(labels, return_inverse=True)[1]."
            )
        if labels.dtype != torch.int64 or labels.shape != (len(self),):
            flat = labels.numel() == len(self)
            remedy = "Convert them with .long().flatten()." if flat else "Pass as many labels as examples."
            raise ShapeError(
                f"{self.name}: got labels of type {labels.dtype} and shape {tuple(labels.shape)}; expected int64 and "
                f"({len(self)},), one label per example. {remedy}"
            )
        low, high = int(labels.min()), int(labels.max())
        if self.classes is None or low < -1 or high >= self.classes:
            raise DataError(
                f"{self.name}: got labels from {low} to {high} with classes={self.classes}; expected 0 ≤ label < "
                "classes, or -1 where it is unknown. Number the classes from 0, and pass their number as classes=."
            )

    def _check_context(self, context: Tensor) -> None:
        if not context.is_floating_point() or context.ndim != 2 or context.shape[0] != len(self):
            raise ShapeError(
                f"{self.name}: got a context of type {context.dtype} and shape {tuple(context.shape)}; expected "
                f"floating vectors of shape ({len(self)}, C). Pass class numbers as labels (N,) of type int64 instead."
            )
        check_finite(context, "context", self.name)


def stable_permutation(count: int, seed: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Returns a permutation of 0 … count - 1 that depends on `seed` alone.

    Sorts raw PCG64 output, whose stream NumPy guarantees across versions, unlike that of `Generator.permutation`.
    """
    return np.argsort(np.random.PCG64(whole_seed(seed, 0)).random_raw(count), kind="stable")


def check_finite(tensor: Tensor, field: str, name: str, *, gaps: bool = False) -> None:
    """Raises DataError with the number of the first example that has infinite values, or NaN without `gaps`."""
    good = torch.isfinite(tensor) | tensor.isnan() if gaps else torch.isfinite(tensor)
    if tensor.is_floating_point() and not bool(good.all()):
        first = int((~good).flatten(1).any(1).nonzero()[0])
        raise DataError(
            f"{name}: got NaN or infinite values in {field}, first in example {first}; expected finite numbers. "
            "Remove or impute them before training."
        )


def concatenate(sets: Sequence[Dataset]) -> Dataset:
    """Returns the examples of several sets, one set after another; streamed if one of them is.

    Labels, context, factors and names are kept where every set has them. Name and license are joined by " + " where
    they differ; the split is that of the first set.

    Raises:
        DataError: There is no set.
        ShapeError: Shape, type, scale, binarization or width of the context differ, or only some sets have labels.
    """
    if not sets:
        raise DataError("Got no data sets to concatenate; expected at least one.")
    for each in sets[1:]:
        _check_alike(each, sets[0])
    streamed = (each for each in sets if type(each)._joined_with is not Dataset._joined_with)
    return next(streamed, sets[0])._joined_with(
        sets,
        name=" + ".join(dict.fromkeys(each.name for each in sets)),
        licence=" + ".join(dict.fromkeys(each.licence for each in sets if each.licence)),
        labels=_joined([each.labels for each in sets]),
        context=_joined([each.context for each in sets]),
        classes=max(each.classes or 0 for each in sets) or None,
        factors=_joined_factors([each.factors for each in sets]),
        groups=_joined_groups([each.groups for each in sets]),
        names=None if any(each.names is None for each in sets) else [n for each in sets for n in each.names or ()],
    )


def _check_alike(each: Dataset, first: Dataset) -> None:
    kinds = [
        {
            "shape": one.shape,
            "type": one.images.dtype,
            "scale": one.scale,
            "binarization": one.binarization,
            "context": None if one.context is None else one.context.shape[1],
            "labels": one.labels is not None,
            "class_names": one.class_names,
            "layout": one.layout,
        }
        for one in (each, first)
    ]
    for key, got in kinds[0].items():
        if got != kinds[1][key]:
            raise ShapeError(
                f"Got data sets to concatenate that differ: {key} is {got} in {each.name!r} and {kinds[1][key]} in "
                f"{first.name!r}; expected the same in all. Convert one of them first."
            )


def _joined(tensors: Sequence[Tensor | None]) -> Tensor | None:
    found = [each for each in tensors if each is not None]
    return torch.cat([each.to(found[0]) for each in found]) if len(found) == len(tensors) else None


def _joined_groups(groups: Sequence[Tensor | None]) -> Tensor | None:
    """Returns the groups of several sets, numbered anew, so that no group has examples of two sets."""
    found, first = list[Tensor | None](), 0
    for each in groups:
        found.append(None if each is None else each + first)
        first += 0 if each is None else int(each.max()) + 1
    return _joined(found)


def _joined_factors(factors: Sequence[Factors | None]) -> Factors | None:
    found = [each for each in factors if each is not None]
    if len(found) < len(factors) or len({(each.names, each.sizes) for each in found}) > 1:
        return None
    return replace(found[0], places=torch.cat([each.places for each in found]))
