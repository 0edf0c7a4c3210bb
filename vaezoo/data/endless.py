"""`EndlessDataset`: an iterable data set that a training reads in its own order, never to its end."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from vaezoo.data.dataset import Dataset, check_finite
from vaezoo.data.items import Repeated
from vaezoo.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EndlessDataset(Dataset):
    """The beginning of an iterable data set in memory, and the iterable, from which a training takes its batches.

    All fields and methods are those of the beginning: from it the shape, the classes and data-dependent initialization
    are determined, and held-out examples are taken.

    Args:
        source: All examples, begun anew when they end.
        skipped: Number of examples at the beginning that are held out of the training.
        total: Number of examples that the training takes; 0 if unknown.
        changes: Functions of images (B, *shape) that were applied to those in memory, such as padding.
    """

    source: Repeated
    skipped: int = 0
    total: int = 0
    changes: tuple[Callable[[Tensor], Tensor], ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape, type and classes, not over the examples, which may differ whenever they are read."""
        text = f"endless:{self.shape}:{self.images.dtype}:{self.scale}:{self.classes};"
        return hashlib.sha256(text.encode()).hexdigest()

    def split_off(self, count: int, seed: int) -> tuple[Self, Self]:
        """Holds out the first `count` examples; `seed` has no effect."""
        if not 0 < count < len(self):
            raise DataError(f"{self.name}: got {count} examples to hold out; expected 1 to {len(self) - 1}.")
        rest = replace(self.subset(slice(count, None)), skipped=self.skipped + count)
        return rest, replace(self.subset(slice(count)), split="validation")

    def hide_labels(self, count: int, seed: int) -> Self:
        """Raises DataError: labels of a stream cannot be chosen."""
        raise DataError(
            f"{self.name}: got data.labels = {count} for an iterable data set without a length; expected a set whose "
            "labels are all known in advance. Pass a map-style data set."
        )

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Returns the set with changed images; those of the source are changed when they are read."""
        return replace(super().mapped(change), changes=(*self.changes, change))

    def examples(self, x: list[Tensor]) -> Tensor:
        """Returns examples of the source as `batch` does, `float32` (B, *shape); raises DataError if not finite."""
        images = torch.stack(x)
        images = images.to(torch.uint8) if images.dtype == torch.bool else images
        for change in self.changes:
            images = change(images)
        check_finite(images, "images", self.name)
        floats = images.to(torch.float32)
        return floats if images.is_floating_point() else floats.div_(self.scale)
