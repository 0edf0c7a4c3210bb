"""Conversion of a user's own data to a `Dataset`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import torch
from torch import Tensor

from vaezoo.data.dataset import Dataset
from vaezoo.data.factors import Factors
from vaezoo.data.labels import Words, are_words, numbered
from vaezoo.data.readers.pixels import image_tensor, is_gray
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.data.transforms.resize import fitted
from vaezoo.errors import DataError, ShapeError, warn

if TYPE_CHECKING:
    from PIL.Image import Image


def from_tensors(
    data: object,
    name: str = "tensors",
    *,
    split: str = "train",
    classes: int | None = None,
    factors: Factors | None = None,
    scale: int | None = None,
) -> Dataset:
    """Returns a user's own data as a `Dataset`.

    Args:
        data: Images (N, *shape) as a tensor or array, `uint8`, boolean or floating; a tuple `(x, c)` of such images
            and class numbers (N,), names of classes (N,) or floating vectors (N, C); a `torch.utils.data.Dataset` whose
            items are x or (x, c), read once; or a `vaezoo.data.Dataset`, returned unchanged.
        name: Name of the set in reports and errors.
        split: `"train"`, `"validation"` or `"test"`.
        classes: Number of classes; None means one more than the largest class number.
        factors: Ground-truth factors of the images, such as `Factors.of(values, names)`.
        scale: The `uint8` value that represents 1.0: 255 for pixels, 1 for binary images. None means 1 for boolean
            images and 255 for others, but 1 with a warning for `uint8` images whose largest value is 1.

    Raises:
        DataError: The data is empty, not finite or out of range.
        ShapeError: The data has an unsupported form, type or shape.
    """
    if isinstance(data, Dataset):
        return data
    images, condition = _parts(data, name)
    if images.dtype == torch.bool:
        images, scale = images.to(torch.uint8), 1 if scale is None else scale
    names = None
    if condition is not None and not isinstance(condition, Tensor):
        condition, names = numbered(condition, name)
    labels, context = _condition(condition, name)
    if names is not None:
        classes = len(names)
    elif labels is not None and classes is None and labels.numel():
        classes = int(labels.max()) + 1
    return Dataset(
        name=name,
        split=split,
        images=images,
        labels=labels,
        context=context,
        classes=classes,
        class_names=names,
        scale=_scale_of(images, name) if scale is None else scale,
        factors=factors,
    )


def _scale_of(images: Tensor, name: str) -> int:
    """Returns 1, with a warning, for `uint8` images whose largest value is 1, which may be binary or dark; else 255."""
    if images.dtype != torch.uint8 or images.numel() == 0 or int(images.max()) != 1:
        return 255
    warn(
        f"{name}: got uint8 images whose largest value is 1; they are treated as binary (scale=1). If they are dark "
        "images of 0 to 255, or to confirm, pass from_tensors(x, scale=255) or scale=1."
    )
    return 1


def _parts(data: object, name: str) -> tuple[Tensor, Tensor | Words | None]:
    if isinstance(data, Tensor | np.ndarray):
        return as_tensor(data, name), None
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], Tensor | np.ndarray) and are_words(data[1]):
        return as_tensor(data[0], name), list(data[1])
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor | np.ndarray) for part in data):
        return as_tensor(data[0], name), as_tensor(data[1], name)
    if isinstance(data, torch.utils.data.Dataset):
        return _collect(_items(data), name)
    raise ShapeError(
        f"{name}: got a {type(data).__name__}; expected a tensor or array (N, *shape), a tuple (x, c) of two, or a "
        "torch.utils.data.Dataset. Stack a list of images with torch.stack(images)."
    )


def _items(data: object) -> Iterator[object]:
    """Iterates by index up to the length: a map-style data set need not raise IndexError at its end."""
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return (data[i] for i in range(len(data)))
    if isinstance(data, Iterable):
        return iter(data)
    raise ShapeError(f"Got a {type(data).__name__} with neither a length nor an iterator; expected one of them.")


def _collect(items: Iterator[object], name: str) -> tuple[Tensor, Tensor | Words | None]:
    """Stacks items x, (x,) or (x, c)."""
    images, conditions, words = list[Tensor](), list[Tensor](), list[str]()
    for i, item in enumerate(items):
        parts = item if isinstance(item, tuple | list) else (item,)
        if len(parts) not in (1, 2):
            raise ShapeError(f"{name}: got item {i} with {len(parts)} parts; expected x or (x, c). Wrap the data set.")
        images.append(as_tensor(parts[0], f"{name}, item {i}"))
        if len(parts) == 2 and isinstance(parts[1], str):
            words.append(parts[1])
        elif len(parts) == 2:
            conditions.append(as_tensor(parts[1], f"{name}, item {i}"))
    check_conditions(len(images), len(words) or len(conditions), name)
    return _stack(images, "x", name), words or (_stack(conditions, "c", name) if conditions else None)


def _stack(tensors: list[Tensor], part: str, name: str) -> Tensor:
    for i, tensor in enumerate(tensors):
        check_alike(tensor, tensors[0].shape, tensors[0].dtype, f"{name}: got {part}", i)
    return torch.stack(tensors)


def check_alike(tensor: Tensor, shape: Sequence[int], dtype: torch.dtype, got: str, item: int) -> None:
    """Raises `ShapeError` unless an item's tensor has the shape and type of the first one."""
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype:
        raise ShapeError(
            f"{got} of shape {tuple(tensor.shape)} and type {tensor.dtype} in item {item}; expected "
            f"{tuple(shape)} and {dtype}, as in item 0. Resize or convert the items first."
        )


def check_conditions(images: int, conditions: int, name: str) -> None:
    """Raises `DataError` unless there is an item, and a condition with all items or none."""
    if not images or conditions not in (0, images):
        raise DataError(
            f"{name}: got {images} items, {conditions} of them with a condition; expected at least one item, "
            "and a condition with all or none. Correct the data set."
        )


def as_tensor(value: object, name: str) -> Tensor:
    """Returns a tensor, array, number or Pillow image as a tensor without a gradient.

    Raises:
        DataError: An array has masked elements, or a Pillow image cannot be decoded.
        ShapeError: The value is of another type.
    """
    if isinstance(value, Tensor):
        return value.detach()
    if is_pillow(value):
        return item_tensor(value, name, ImageOptions())
    if isinstance(value, np.ma.MaskedArray) and (missing := int(np.ma.getmaskarray(value).sum())):
        raise DataError(
            f"{name}: got an array with {missing:,} masked elements; expected none, since a tensor has no mask and the "
            "values below it would become data. Fill them in (x.filled(…)) or drop those examples."
        )
    try:
        return torch.as_tensor(np.array(value))
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"{name}: got a {type(value).__name__} that is not a tensor ({error}); expected a tensor, array, number or "
            "Pillow image. Convert it first."
        ) from error


def is_pillow(value: object) -> "TypeGuard[Image]":
    """Returns whether a value is a Pillow image, without importing Pillow."""
    pillow = sys.modules.get("PIL.Image")  # imported if there are images
    return pillow is not None and isinstance(value, pillow.Image)


def item_tensor(value: object, name: str, options: ImageOptions) -> Tensor:
    """Returns one image, a Pillow image or a tensor or array (C, H, W), in the size and channels of the options.

    Raises:
        DataError, ShapeError: See `as_tensor`.
    """
    if is_pillow(value):
        gray = is_gray(value) if options.channels is None else options.channels == "gray"
        return image_tensor(value, name, options, gray=gray)
    tensor = as_tensor(value, name)
    return fitted(tensor[None], options)[0] if tensor.ndim == 3 else tensor


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
