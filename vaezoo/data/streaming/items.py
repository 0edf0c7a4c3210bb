"""Map-style data sets of a user that are larger than memory: items are read when a batch needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vaezoo.data.checks import check_type
from vaezoo.data.items import Example, ItemForm, example_of, stacked_conditions, warn_of_random_items
from vaezoo.data.labels import Words
from vaezoo.data.streaming.dataset import Reader, stream
from vaezoo.data.streaming.limits import worker_count
from vaezoo.data.streaming.prefetch import read_ahead
from vaezoo.data.tensors import check_alike

_PART = 256  # items read at a time


@dataclass(kw_only=True, eq=False)
class ItemSource:
    """Items by index (an `ImageSource`).

    Args:
        data: The items: x, (x, c) or dicts.
        name: Name of the set in errors.
        form: See `ItemForm`.
        first: The first item, whose shape and type all must have.
        varies: Whether items differ when they are read twice.
    """

    data: Sequence[object]
    name: str
    form: ItemForm
    first: Tensor
    varies: bool

    def __post_init__(self) -> None:
        """Determines shape and type of the examples; booleans become `uint8`."""
        self.shape: tuple[int, ...] = tuple(self.first.shape)
        if self.first.dtype != torch.bool:
            check_type(self.first, self.name)
        self.dtype = torch.uint8 if self.first.dtype == torch.bool else self.first.dtype

    def __len__(self) -> int:
        """Returns the number of items."""
        return len(self.data)

    def example(self, position: int) -> Example:
        """Returns x and c of an item."""
        x, c = example_of(self.data[position], f"{self.name}, item {position}", self.form)
        check_alike(x, self.first.shape, self.first.dtype, f"{self.name}: got x", position)
        return x, c

    def read(self, positions: Tensor) -> Tensor:
        """Returns the examples at `positions` (B,), (B, *shape)."""
        return torch.stack([self.example(position)[0] for position in positions.tolist()]).to(self.dtype)

    def conditions(self, positions: Sequence[int]) -> list[Tensor | str | None]:
        """Returns the labels or contexts of items."""
        return [c for _, c in map(self.example, positions)]


def streamed_items(
    data: Sequence[object], name: str, form: ItemForm, first: Tensor, workers: int
) -> tuple[Reader, Tensor | Words | None]:
    """Returns the reader of a user's items, and their labels or contexts (N, …), which are collected in one pass."""
    varies = warn_of_random_items(data, name, form, kept=False)
    source = ItemSource(data=data, name=name, form=form, first=first, varies=varies)
    parts = torch.arange(len(data)).split(_PART)
    found = read_ahead(source.conditions, parts, workers=worker_count(workers) if len(parts) > 1 else 0)
    return stream(source), stacked_conditions([each for part in found for each in part], name)
