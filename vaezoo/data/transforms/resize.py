"""Resizing, cropping and conversion of the channels of images."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from vaezoo.core import require
from vaezoo.data.dataset import Dataset
from vaezoo.data.streaming.dataset import StreamedDataset
from vaezoo.data.transforms.image_options import ImageOptions
from vaezoo.data.transforms.wrapped import Wrapped
from vaezoo.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

D = TypeVar("D", bound=Dataset)

_LUMA = (19_595, 38_470, 7_471)  # of 65,536, as in Pillow: ITU-R 601-2


def fit(image: "Image", options: ImageOptions, fill: float | tuple[int, ...]) -> "Image":
    """Returns a Pillow image in the size of the options, resized with an antialiased bilinear filter.

    The filter does not overshoot, so that values keep their range. `fill` is the color of margins.
    """
    if options.size is None or image.size == options.size[::-1]:
        return image
    pillow, (height, width) = require("PIL.Image", "Pillow", "Resizing images"), options.size
    bilinear = pillow.Resampling.BILINEAR
    if options.crop == "center":
        cropped: Image = require("PIL.ImageOps", "Pillow", "Resizing images").fit(image, (width, height), bilinear)
        return cropped
    ratio = min(width / image.width, height / image.height)
    inner = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
    canvas: Image = pillow.new(image.mode, (width, height), fill)
    canvas.paste(image.resize(inner, bilinear), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return canvas


def fitted(images: Tensor, options: ImageOptions) -> Tensor:
    """Returns images (B, C, H, W), `uint8` or floating with white = 1, in the size and channels of the options."""
    planes, fill = _channels(images.cpu(), options), [float(part) for part in options.fill]
    if options.size is None or planes.shape[2:] == options.size:
        return planes
    whole = planes.dtype == torch.uint8
    if planes.shape[1] == 1:
        fill = [float(_luma(torch.tensor([options.fill], dtype=torch.uint8).reshape(1, 3, 1, 1)))]
    elif planes.shape[1] != 3:
        fill = [0.0] * planes.shape[1]
    resized = torch.empty(*planes.shape[:2], *options.size, dtype=planes.dtype)
    for row, image in enumerate(planes):
        for channel, plane in enumerate(image):
            color = int(fill[channel]) if whole else fill[channel] / 255
            resized[row, channel] = _plane(plane, options, color)
    return resized


def fit_images(dataset: D, options: ImageOptions) -> D:
    """Returns a set of images (N, C, H, W) in the size and channels of the options.

    Binary images become gray (0 to 255): binarize them afterwards.

    Raises:
        DataError: The examples are not images, do not have one or three channels where these are to be converted, or
            are already binarized.
        MissingExtraError: Pillow is not installed.
    """
    shape, wanted = dataset.shape, options.channels
    if options.size is None and wanted is None:
        return dataset
    if len(shape) != 3 or (wanted and shape[0] not in (1, 3)):
        raise DataError(
            f"{dataset.name}: got {', '.join(f'{key} = {value}' for key, value in options.facts().items())} for "
            f"examples of shape {shape}; expected images (C, H, W){' of one or three channels' if wanted else ''}. "
            "Leave these settings out."
        )
    channels = {None: shape[0], "gray": 1, "color": 3}[wanted]
    target = (channels, *(options.size or shape[1:]))
    if target == shape:
        return dataset
    if dataset.binarization == "static":
        raise DataError(f"{dataset.name}: got images that are already binarized. Resize them before binarization.")
    if isinstance(dataset, StreamedDataset):
        source = Fitted(source=dataset.reader.source, shape=target, options=options, scale=dataset.scale)
        return replace(dataset, reader=replace(dataset.reader, source=source), scale=255)
    images = fitted(_full_range(dataset.images, dataset.scale), options)
    return replace(dataset, images=images.to(dataset.images.device), scale=255)


@dataclass(kw_only=True, eq=False)
class Fitted(Wrapped):
    """Images of another source, in which `scale` is white, in other sizes or channels."""

    options: ImageOptions
    scale: int
    levels = tuple(range(256))

    @property
    def label(self) -> str:
        """The change of the images, for digests."""
        return str(sorted(self.options.facts().items()))

    def read(self, positions: Tensor) -> Tensor:
        """Returns the images at `positions` (B,)."""
        return fitted(_full_range(self.source.read(positions), self.scale), self.options)


def _full_range(images: Tensor, scale: int) -> Tensor:
    """Returns `uint8` images in which 255 is white in place of `scale`; floating ones are unchanged."""
    if images.is_floating_point() or scale == 255:
        return images
    return (images.float() * (255 / scale)).round_().to(torch.uint8)


def _plane(plane: Tensor, options: ImageOptions, fill: float) -> Tensor:
    """Returns one channel (H, W), resized."""
    whole = plane.dtype == torch.uint8
    array = (plane if whole else plane.float()).contiguous().numpy()
    image = require("PIL.Image", "Pillow", "Resizing images").fromarray(array)  # mode L or F
    return torch.from_numpy(np.array(fit(image, options, fill))).to(plane.dtype)


def _channels(images: Tensor, options: ImageOptions) -> Tensor:
    if options.channels == "gray" and images.shape[1] == 3:
        return _luma(images)
    if options.channels == "color" and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1)
    return images


def _luma(images: Tensor) -> Tensor:
    """Returns the gray values (B, 1, H, W) of color images as Pillow computes them."""
    weights = torch.tensor(_LUMA).reshape(1, 3, 1, 1)
    if images.dtype == torch.uint8:
        return ((images.int() * weights).sum(1, keepdim=True) + 0x8000 >> 16).to(torch.uint8)
    return (images * (weights / 65_536).to(images.dtype)).sum(1, keepdim=True)
