"""Items of a user's data: x, (x, c), or a dict with an image and perhaps a label."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import torch
from torch import Tensor

from vaezoo.data.labels import Words
from vaezoo.data.tensors import as_tensor, check_alike, check_conditions, item_tensor, stack
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.errors import DataError, ShapeError, shorten, warn

IMAGE_KEYS: Final = ("image", "images", "img", "pixel_values", "pixels", "x", "input", "data")
"""Keys of a dict that are taken for the example, unless `image_key` names another one."""

LABEL_KEYS: Final = ("label", "labels", "target", "targets", "y", "class", "context", "c")
"""Keys of a dict that are taken for its label or context."""

READ_TWICE: Final = 8
"""Items that are read twice to find random augmentation."""

Example = tuple[Tensor, Tensor | str | None]
"""x (*shape), and its class number, name of its class, or context vector (C,), or None."""


@dataclass(frozen=True)
class ItemForm:
    """How an item becomes tensors: the key of x in dicts, and size and channels of images."""

    image_key: str | None = None
    options: ImageOptions = field(default_factory=ImageOptions)


def parts_of(item: object, name: str, image_key: str | None = None) -> tuple[object, object]:
    """Returns x and c, or None, of an item: x, (x,), (x, c) or a dict; nested lists of plain numbers are one x.

    Raises:
        ShapeError: The item has more parts, or a dict has no key, or several, for x.
    """
    if isinstance(item, Mapping):
        return _entries(item, name, image_key)
    if not isinstance(item, tuple | list) or _is_numbers(item):
        return item, None
    if len(item) not in (1, 2):
        raise ShapeError(f"{name}: got an item with {len(item)} parts; expected x or (x, c). Wrap the data set.")
    return item[0], item[1] if len(item) == 2 else None


def _is_numbers(item: object) -> bool:
    """Returns whether an item is a list of plain numbers, or of such lists; [x, label] is neither."""
    if not isinstance(item, list):
        return False
    return all(isinstance(each, int | float) for each in item) or all(map(_is_numbers, item))


def example_of(item: object, name: str, form: ItemForm) -> Example:
    """Returns x (*shape) and c of an item as tensors."""
    x, c = parts_of(item, name, form.image_key)
    return item_tensor(x, name, form.options), c if c is None or isinstance(c, str) else as_tensor(c, name)


def stacked(found: Sequence[Example], name: str) -> tuple[Tensor, Tensor | Words | None]:
    """Returns examples as x (N, *shape), and their conditions; raises DataError unless all or none have one."""
    conditions = stacked_conditions([c for _, c in found], name)
    return stack([x for x, _ in found], "x", name), conditions


def stacked_conditions(found: Sequence[Tensor | str | None], name: str) -> Tensor | Words | None:
    """Returns the conditions of examples, (N, …), as words, or None; raises DataError unless all or none have one."""
    words, tensors = [c for c in found if isinstance(c, str)], [c for c in found if isinstance(c, Tensor)]
    check_conditions(len(found), len(words) or len(tensors), name)
    return words or (stack(tensors, "c", name) if tensors else None)


def examples(items: Iterable[object], name: str, form: ItemForm, first: Example | None = None) -> Iterator[Example]:
    """Yields each item as tensors of the shapes and types of the first one.

    Raises:
        ShapeError: An item is of another shape or type, or cannot be converted; the message has its number.
    """
    for i, item in enumerate(items):
        found = example_of(item, f"{name}, item {i}", form)
        first = first or found
        for part, one, wanted in zip("xc", found, first, strict=True):
            if isinstance(one, Tensor) and isinstance(wanted, Tensor):
                check_alike(one, wanted.shape, wanted.dtype, f"{name}: got {part}", i)
        yield found


def warn_of_random_items(data: Sequence[object], name: str, form: ItemForm, *, kept: bool = True) -> bool:
    """Returns whether items differ when they are read twice, as with random augmentation, and warns if so.

    Args:
        data: Items by index; at most `READ_TWICE` of them are read.
        name: Name of the set in the warning.
        form: See `ItemForm`.
        kept: Whether the items are read once and kept in memory, or else read at every use.
    """
    places = torch.linspace(0, len(data) - 1, min(READ_TWICE, len(data))).long().unique().tolist()
    pairs = ((example_of(data[i], f"{name}, item {i}", form) for _ in range(2)) for i in places)
    if all(_equal(*parts) for pair in pairs for parts in zip(*pair, strict=True)):
        return False
    use = (
        "they are read once, so that their augmentation is the same at every step"
        if kept
        else "they are read at every use, so that a resumed run does not repeat the same batches"
    )
    warn(
        f"{name}: items differ when they are read twice (random augmentation?); {use}. Remove the random transforms, "
        "and set data.flip or data.shift in the recipe: that augmentation is a function of seed and step."
    )
    return True


def _equal(one: Tensor | str | None, other: Tensor | str | None) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return one is other or (isinstance(one, str) and one == other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(
        torch.equal(one.nan_to_num(), other.nan_to_num()) if one.is_floating_point() else torch.equal(one, other)
    )


def _entries(item: Mapping[object, object], name: str, image_key: str | None) -> tuple[object, object]:
    """Returns the entries of a dict for x and c."""
    known = [image_key] if image_key is not None else list(IMAGE_KEYS)
    found: list[object] = [key for key in known if key in item]
    if not found and image_key is None and len(item) == 1:
        found = list(item)
    if len(found) != 1:
        hint = "" if image_key is None else f" {image_key!r} is none of them."
        raise ShapeError(
            f"{name}: got a dict with the keys {shorten(', '.join(map(str, item)))}; expected exactly one for x.{hint} "
            "Name it: image_key= of as_dataset, or data.image_key in a recipe."
        )
    labels = [key for key in LABEL_KEYS if key in item and key != found[0]]
    return item[found[0]], item[labels[0]] if labels else None


class Repeated:
    """The examples of an iterable data set, which is begun anew whenever it ends.

    Args:
        data: Yields items; iterated several times.
        name: Name of the set in errors.
        form: See `ItemForm`.

    Raises:
        ShapeError: `data` is an iterator, which cannot begin anew.
    """

    def __init__(self, data: Iterable[object], name: str, form: ItemForm) -> None:
        if isinstance(data, Iterator):
            raise ShapeError(
                f"{name}: got a {type(data).__name__}, which can be read only once; expected a "
                "torch.utils.data.IterableDataset, whose __iter__ begins anew. Wrap the generator, or pass a list."
            )
        self.data, self.name, self.form = data, name, form

    def once(self) -> Iterator[Example]:
        """Yields the examples once."""
        return examples(self.data, self.name, self.form)

    def after(self, skipped: int, first: Example | None = None) -> Iterator[Example]:
        """Yields the examples without end; each time it leaves out the first `skipped` ones.

        Raises:
            DataError: There are no others.
            ShapeError: One differs from the first in shape or type.
        """
        while True:
            empty = True
            for found in islice(examples(self.data, self.name, self.form, first), skipped, None):
                first, empty = first or found, False
                yield found
            if empty:
                raise DataError(
                    f"{self.name}: got an iterable data set of at most {skipped} items; expected more than held out "
                    "(data.validation)."
                )
