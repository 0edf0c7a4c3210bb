"""Noise of a static binarization: raw PCG64 output, a fixed section of the stream for each image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LEVELS = 1 << 16
_PERIOD = 1 << 128  # period of PCG64

Words = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


def words_for(width: int) -> int:
    """Returns the number of raw 64-bit words for an image of `width` values: one word for four values."""
    return -(-width // 4)


def stretches(seed: int, places: Sequence[int], width: int) -> Words:
    """Returns the words of the images at `places` of their set: uint64, `len(places) · words_for(width)`.

    The words of an image do not depend on which other places are read.
    """
    stream, words, at = np.random.PCG64(seed), words_for(width), 0
    parts = []
    for place in places:
        stream.advance((place * words - at) % _PERIOD)
        parts.append(stream.random_raw(words))
        at = (place + 1) * words
    return np.concatenate(parts)


def ones(pixels: Tensor, scale: int, raw: Words) -> Tensor:
    """Returns the binarized pixels, `uint8` of the shape of `pixels`.

    Args:
        pixels: (B, D) on the CPU, `uint8`, or floating in [0, 1].
        scale: The `uint8` value that represents 1.0.
        raw: The words of these images, as `stretches` returns them.
    """
    count, width = pixels.shape
    noise = raw.astype("<u8").view("<u2").reshape(count, -1)
    return torch.from_numpy((noise[:, :width] < thresholds(pixels, scale)).view(np.uint8))


def thresholds(pixels: Tensor, scale: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]":
    """Returns, of 65,536 16-bit values, the number that give a 1: 0 for black, all for white."""
    if pixels.dtype == torch.uint8:
        table = np.rint(np.arange(256) * (_LEVELS / scale)).astype(np.uint32)
        return np.take(table, pixels.numpy())
    return np.asarray(np.rint(pixels.double().numpy() * _LEVELS), dtype=np.uint32)
