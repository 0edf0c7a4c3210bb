"""Conversion of single values to tensors, and checks that they are alike."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import torch
from torch import Tensor

from vaezoo.data.readers.pixels import image_tensor, is_gray
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.data.transforms.resize import fitted
from vaezoo.errors import DataError, ShapeError

if TYPE_CHECKING:
    from PIL.Image import Image


def stack(tensors: Sequence[Tensor], part: str, name: str) -> Tensor:
    """Returns tensors of one shape and type, stacked; `part` and `name` are for the error."""
    for i, tensor in enumerate(tensors):
        check_alike(tensor, tensors[0].shape, tensors[0].dtype, f"{name}: got {part}", i)
    return torch.stack(list(tensors))


def check_alike(tensor: Tensor, shape: Sequence[int], dtype: torch.dtype, got: str, item: int) -> None:
    """Raises `ShapeError` unless an item's tensor has the shape and type of the first one."""
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype:
        raise ShapeError(
            f"{got} of shape {tuple(tensor.shape)} and type {tensor.dtype} in item {item}; expected "
            f"{tuple(shape)} and {dtype}, as in item 0. Resize or convert the items first, or set size and channels "
            "(data.size, data.channels of a recipe); pass series of varying length to vaezoo.data.series."
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
        ShapeError: The value is of another type, or on the meta device.
    """
    if isinstance(value, Tensor):
        if value.is_meta:
            raise ShapeError(f"{name}: got a tensor on the meta device, which has no values; expected one in memory.")
        return value.detach() if value.layout == torch.strided else value.detach().to_dense()
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
    return fitted(tensor[None], options)[0] if tensor.ndim == 3 and options.facts() else tensor
