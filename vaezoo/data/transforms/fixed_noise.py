"""Noise of a static binarization: raw PCG64 output, a fixed section of the stream for each image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vaezoo.errors import DataError

_LEVELS = 1 << 16
_PERIOD = 1 << 128  # period of PCG64


def binarized(pixels: Tensor, scale: int, seed: int, places: Sequence[int]) -> Tensor:
    """Returns binarized pixels, `uint8` of the shape of `pixels`.

    Args:
        pixels: (B, *shape) on the CPU, `uint8`, or floating in [0, 1].
        scale: The `uint8` value that represents 1.0.
        seed: Seed of the stream.
        places: Places of the images in their set, (B,); the noise of an image depends on its own place alone.
    """
    flat = pixels.flatten(1)
    noise = stretches(seed, places, flat.shape[1]).astype("<u8").view("<u2").reshape(len(flat), -1)
    drawn = (noise[:, : flat.shape[1]] < thresholds(flat, scale)).view(np.uint8)
    return torch.from_numpy(drawn).reshape(pixels.shape)


def stretches(seed: int, places: Sequence[int], width: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]":
    """Returns the raw words of the images of `width` values at `places`: one 64-bit word for four values."""
    stream, words, at = np.random.PCG64(seed), -(-width // 4), 0
    parts = []
    for place in places:
        stream.advance((place * words - at) % _PERIOD)
        parts.append(stream.random_raw(words))
        at = (place + 1) * words
    return np.concatenate(parts)


def thresholds(pixels: Tensor, scale: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]":
    """Returns, of 65,536 16-bit values, the number that give a 1: 0 for black, all for white."""
    if pixels.dtype == torch.uint8:
        table = np.rint(np.arange(256) * (_LEVELS / scale)).astype(np.uint32)
        return np.take(table, pixels.numpy())
    return np.asarray(np.rint(pixels.double().numpy() * _LEVELS), dtype=np.uint32)


def check_probabilities(images: Tensor, name: str) -> None:
    """Raises DataError if floating values lie outside [0, 1]."""
    if images.is_floating_point():
        low, high = float(images.min()), float(images.max())
        if low < 0 or high > 1:
            raise DataError(
                f"{name}: got values from {low:.4g} to {high:.4g}; expected values in [0, 1] to binarize. "
                'Rescale them, or set binarize = "none" and choose a likelihood for continuous data.'
            )
