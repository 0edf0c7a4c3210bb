"""Conversion of Pillow images to tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from vaezoo.core import require
from vaezoo.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

GRAY_MODES: Final = frozenset({"1", "L", "LA"})
"""Pillow modes with one channel of at most 8 bits (and optional transparency)."""

_DEEP_MODES: Final = ("I", "F")  # 16 bits and more: Pillow would clip them, not scale them


@contextmanager
def open_image(file: Path) -> Iterator["Image"]:
    """Opens an image file; errors of Pillow, here or in the block, become a `DataError` that names the file."""
    pillow = require("PIL.Image", "Pillow", "Reading images")
    try:
        with pillow.open(file) as image:
            yield image
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, pillow.DecompressionBombError) as error:
        raise DataError(
            f"{file}: got a file that cannot be read as an image ({error}); expected a whole image. "
            "Replace or remove the file."
        ) from error


def check_depth(image: "Image", name: str) -> None:
    """Raises `DataError` if an image has more than 8 bits per channel; reads its header only."""
    if image.mode.startswith(_DEEP_MODES):
        raise DataError(
            f"{name}: got more than 8 bits per channel (mode {image.mode}); expected 8. Convert the image, or pass "
            "floating tensors to from_tensors."
        )


def image_tensor(image: "Image", name: str, *, gray: bool) -> Tensor:
    """Returns an image as `uint8` of shape (1, H, W) if `gray`, else (3, H, W), with black in place of transparency.

    Raises:
        DataError: The image has more than 8 bits per channel.
    """
    check_depth(image, name)
    if image.has_transparency_data:
        pillow = require("PIL.Image", "Pillow", "Reading images")
        clear = image.convert("RGBA")
        image = pillow.alpha_composite(pillow.new("RGBA", clear.size, (0, 0, 0, 255)), clear)
    array = np.array(image.convert("L" if gray else "RGB"), dtype=np.uint8)
    return torch.from_numpy(array[None] if gray else np.ascontiguousarray(array.transpose(2, 0, 1)))
