"""Conversion of Pillow images to tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from vaezoo.core import require
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.data.transforms.resize import fit
from vaezoo.errors import DataError, VaezooError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats that are read, all decoded inside the process. (For EPS, Pillow starts Ghostscript.)"""

MOST_PIXELS: Final = 178_956_970
"""Largest number of pixels of an image: Pillow's own limit, which other code may have switched off."""

LARGEST_FILE: Final = 1 << 30
"""Largest size of an image file, in bytes."""

_GRAY_MODES: Final = frozenset({"1", "L", "LA", "La"})
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # from its values to Pillow's Transpose
_EXIF_IN_PNG = frozenset({"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"})
_DRAFT = 2  # a JPEG is decoded at no less than this many times the requested size


@dataclass(frozen=True, kw_only=True)
class Header:
    """Facts about an image file that are known before its pixels are decoded."""

    size: tuple[int, int]  # height and width, upright
    gray: bool
    transparent: bool
    deep: bool  # 16 bits
    animated: bool


@contextmanager
def open_image(file: Path) -> Iterator["Image"]:
    """Opens an image file in one of `FORMATS`; errors of Pillow, here or in the block, become `DataError`s.

    Raises:
        DataError: The file is damaged, of another format, or larger than the limits; the message names it.
    """
    pillow = require("PIL.Image", "Pillow", "Reading images")
    with _errors_named(str(file)):
        if (size := file.stat().st_size) > LARGEST_FILE:
            raise DataError(f"{file}: got {size:,} bytes; expected at most {LARGEST_FILE:,}. Store a smaller image.")
        with pillow.open(file, formats=FORMATS) as image:
            _check_pixels(image, str(file))
            yield image


@contextmanager
def _errors_named(name: str) -> Iterator[None]:
    try:
        yield
    except VaezooError:
        raise
    except Exception as error:  # Pillow raises many types for damaged files
        raise DataError(
            f"{name}: got a file that cannot be read as an image ({error}); expected a whole image in one of the "
            f"formats {', '.join(FORMATS)}. Replace or remove it."
        ) from error


def read_header(file: Path) -> Header:
    """Returns the facts of an image file, without decoding its pixels.

    Raises:
        DataError: The file cannot be read, or has more than 16 bits per channel.
    """
    with open_image(file) as image:
        _check_depth(image, str(file))
        turned = _turn_in_header(image) in (2, 4, 5, 6)
        return Header(
            size=(image.width, image.height) if turned else (image.height, image.width),
            gray=is_gray(image),
            transparent=image.has_transparency_data,
            deep=image.mode.startswith("I"),
            animated=image.format != "MPO" and getattr(image, "is_animated", False),  # MPO: views of one photograph
        )


def is_gray(image: "Image") -> bool:
    """Returns whether an image has one channel (and optional transparency)."""
    return image.mode in _GRAY_MODES or image.mode.startswith("I")


def image_tensor(image: "Image", name: str, options: ImageOptions, *, gray: bool) -> Tensor:
    """Returns an upright image as `uint8` of shape (1, H, W) if `gray`, else (3, H, W).

    The EXIF orientation is applied, transparency is replaced by the background, 16 bits become 8, of an animation the
    first frame is taken, and the image is resized as `options` require.

    Raises:
        DataError: The image has more than 16 bits per channel, or cannot be decoded.
    """
    _check_depth(image, name)
    _check_pixels(image, name)
    if getattr(image, "tile", None) and image.format not in (*FORMATS, "MPO"):
        raise DataError(
            f"{name}: got an image of the format {image.format}, which is not decoded yet; expected one of "
            f"{', '.join(FORMATS)}. Call image.load() first, if you trust the file."
        )
    with _errors_named(name):
        return _decoded(image, options, gray)


def draft(image: "Image", options: ImageOptions) -> None:
    """Makes the decoder of a JPEG compute no more pixels than the options need; changes the size of `image`."""
    if options.size is not None and image.format in ("JPEG", "MPO"):
        side = _DRAFT * max(options.size)
        if options.crop == "none":  # the image's larger side fits into the size
            side = max(1, side * min(image.size) // max(image.size))
        image.draft(image.mode, (side, side))


def _decoded(image: "Image", options: ImageOptions, gray: bool) -> Tensor:
    pillow = require("PIL.Image", "Pillow", "Reading images")
    image.load()
    turn, deep = _turn(image), image.mode.startswith("I")
    clear = image.has_transparency_data and not deep
    plain, mode = _in_8_bits(image) if deep else image, "RGBA" if clear else "L" if gray else "RGB"
    plain = plain if plain.mode == mode else plain.convert(mode)  # `convert` copies
    if turn is not None:
        plain = plain.transpose(pillow.Transpose(turn))
    color = pillow.new("RGB", (1, 1), options.fill).convert(plain.mode).getpixel((0, 0))
    plain = fit(plain, options, (*options.fill, 0) if clear else color)
    if clear:
        plain = pillow.alpha_composite(pillow.new("RGBA", plain.size, (*options.fill, 255)), plain)
    array = np.array(plain.convert("L" if gray else "RGB"), dtype=np.uint8)
    return torch.from_numpy(array[None] if gray else np.ascontiguousarray(array.transpose(2, 0, 1)))


def _in_8_bits(image: "Image") -> "Image":
    """Returns a gray image of 16 bits with 8 bits: 65535 becomes 255."""
    array = (np.asarray(image.convert("I")) + 128) // 257
    plain: Image = require("PIL.Image", "Pillow", "Reading images").fromarray(array.astype(np.uint8))
    return plain


def _turn(image: "Image") -> int | None:
    """Returns the `Transpose` that makes an image upright, or None."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # Pillow raises many types for damaged metadata, which are no reason to reject the pixels
        return None


def _turn_in_header(image: "Image") -> int | None:
    """Returns the result of `_turn`, without decoding the image."""
    if image.format == "TIFF":  # its size is the upright one, and Pillow turns it
        return None
    known = image.format != "PNG" or bool(image.info.keys() & _EXIF_IN_PNG)  # otherwise `getexif` would decode
    return _turn(image) if known else None


def _check_pixels(image: "Image", name: str) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise DataError(
            f"{name}: got {image.width:,} x {image.height:,} pixels; expected at most {MOST_PIXELS:,} in all. "
            "Store a smaller image."
        )


def _check_depth(image: "Image", name: str) -> None:
    """Raises `DataError` if an image has more than 16 bits per channel; reads its header only."""
    deep = image.mode == "F" or (image.mode == "I" and image.format != "PNG")  # Pillow gives "I" for 16-bit PNGs, too
    if deep:
        raise DataError(
            f"{name}: got more than 16 bits per channel (mode {image.mode}), whose range is not defined; expected 8 or "
            "16 bits. Pass the values as floating tensors in [0, 1] to from_tensors, or store an 8-bit image."
        )
