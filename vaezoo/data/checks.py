"""Checks of the type and the layout of examples."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vaezoo.errors import ShapeError, warn

MOST_CHANNELS = 4  # of images: red, green, blue and opacity


def check_type(images: Tensor, name: str) -> None:
    """Raises `ShapeError` unless images are `uint8` or floating, with advice that keeps their values."""
    if images.dtype == torch.uint8 or images.is_floating_point():
        return
    if images.is_complex():
        raise ShapeError(
            f"{name}: got values of type {images.dtype}; expected uint8 (0 to 255) or floating. Pass real and "
            "imaginary parts as channels, such as torch.view_as_real(x).movedim(-1, 1)."
        )
    low, high = (int(each) for each in images.to(torch.int64).aminmax()) if images.numel() else (0, 0)
    fits = low >= 0 and high <= 255
    top = 65535 if 255 < high <= 65535 else max(high, 1)
    advice = (
        "Convert pixels with .to(torch.uint8), or counts and other numbers of a table with .float()."
        if fits
        else f"Convert pixels of 0 to {top} with .float() / {top}, or the numbers of a table with .float(); "
        ".to(torch.uint8) would change them."
    )
    raise ShapeError(
        f"{name}: got values of type {images.dtype} from {low} to {high}; expected uint8 (0 to 255) or floating. "
        f"{advice}"
    )


def warn_of_channels_last(shape: Sequence[int], name: str) -> None:
    """Warns if examples of `shape` seem to be images (H, W, C)."""
    if len(shape) == 3 and shape[2] <= MOST_CHANNELS < min(shape[:2]):
        height, width, channels = shape
        warn(
            f"{name}: got examples of shape {tuple(shape)}, which are read as {height} channels of {width} × "
            f"{channels} pixels. If they are images with the channels last, pass x.permute(0, 3, 1, 2) of a tensor "
            f"(N, {height}, {width}, {channels}), x.permute(2, 0, 1) of a single one, or transpose of an array."
        )
