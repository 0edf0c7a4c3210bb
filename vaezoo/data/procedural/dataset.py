"""Procedural sets: each image is a function of its number and is computed on demand."""

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Protocol, Self, cast

import torch
from torch import Tensor

from vaezoo.core import add_to_digest
from vaezoo.data.dataset import stable_permutation
from vaezoo.data.factors import Factors
from vaezoo.data.splits import check_split
from vaezoo.data.streaming.dataset import ImageSource, StreamedDataset, stream

SPLIT_SEED: Final = 20_170_602
"""Seed that chooses the test images of every procedural set."""

LICENCE: Final = "drawn by vaezoo, Apache-2.0; after dSprites (Matthey et al., 2017), Apache-2.0"


class Drawing(ImageSource, Protocol):
    """Images as a function of their number."""

    #: name and version of the drawing, part of every digest: changes with any pixel
    name: str
    #: the distinct values of all pixels, ascending
    levels: tuple[int, ...]
    #: name and size of each factor, the last one the fastest
    grid: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DrawnDataset(StreamedDataset):
    """A split of a data set whose images are drawn when a batch needs them, in the calling process by default.

    Behaves like any `Dataset`, except that `images` has no values. Arguments as in `StreamedDataset`, whose source is a
    `Drawing`; with `workers` ≥ 1, processes draw ahead.
    """

    workers: int | None = 0

    @property
    def drawing(self) -> Drawing:
        """The source of the images."""
        return cast(Drawing, self.reader.source)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the drawing's name and version, the positions of the images, their noise, and the labels.

        Unlike that of other sets it does not cover the pixels, which would all have to be drawn.
        """
        drawn = self.reader.drawn
        noise = None if drawn is None else (drawn.seed, drawn.scale)
        total = hashlib.sha256(f"drawn:{self.drawing.name}:{self.shape}:{noise};".encode())
        places = None if drawn is None else drawn.places
        add_to_digest(total, positions=self.reader.positions, places=places, labels=self.labels, context=self.context)
        return total.hexdigest()

    def levels(self) -> Tensor:
        """Returns the distinct values of all pixels of the drawing as `batch` gives them, (V,), ascending."""
        known = (0, 1) if self.reader.drawn is not None else self.drawing.levels
        return torch.tensor(known, device=self.device, dtype=torch.float32) / self.scale

    def drawn_once(self, seed: int) -> Self:
        """Returns the set binarized once; binary images are unchanged."""
        return replace(self, binarization="static") if self.scale == 1 else super().drawn_once(seed)


def drawn_split(drawing: Drawing, name: str, split: str, *, scale: int) -> DrawnDataset:
    """Returns a split of a set whose images are numbered by their place in the grid of factors.

    Args:
        drawing: Source of the images; one of its factors is the `"shape"`, which is the class.
        name: Name of the data set.
        split: `"all"`, in the order of the grid; `"test"`, a tenth of the images in random order, so that its first
            examples are representative; or `"train"`, the others.
        scale: The value that represents 1.0.

    Raises:
        DataError: The split is unknown.
    """
    positions = torch.arange(len(drawing))
    if split != "all":
        check_split(name, split)
        order, tenth = torch.from_numpy(stable_permutation(len(drawing), SPLIT_SEED)), len(drawing) // 10
        positions = order[:tenth] if split == "test" else order[tenth:].sort().values
    names, sizes = tuple(each for each, _ in drawing.grid), tuple(size for _, size in drawing.grid)
    which = names.index("shape")
    return DrawnDataset(
        name=name,
        split=split,
        reader=replace(stream(drawing), positions=positions),
        labels=positions // math.prod(sizes[which + 1 :]) % sizes[which],
        classes=sizes[which],
        licence=LICENCE,
        scale=scale,
        factors=Factors(names=names, sizes=sizes, places=positions),
    )
