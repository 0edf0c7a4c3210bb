"""The noise of a binarization that is drawn once: raw PCG64 output, a stretch of it for each image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LEVELS = 1 << 16
_PERIOD = 1 << 128  # of PCG64, whose stream may be entered anywhere

Words = np.ndarray[tuple[int, ...], np.dtype[np.uint64]]


def words_for(width: int) -> int:
    """Returns how many raw words of 64 bits an image of `width` values uses: each serves four with 16 bits."""
    return -(-width // 4)


def stretches(seed: int, places: Sequence[int], width: int) -> Words:
    """Returns the words of the images that are at `places` in their set: uint64, `len(places) · words_for(width)`.

    Reading place after place and entering the stream anywhere give the same words.
    """
    stream, words, at = np.random.PCG64(seed), words_for(width), 0
    parts = []
    for place in places:
        stream.advance((place * words - at) % _PERIOD)
        parts.append(stream.random_raw(words))
        at = (place + 1) * words
    return np.concatenate(parts)


def ones(pixels: Tensor, scale: int, raw: Words) -> Tensor:
    """Returns which pixels become 1, `uint8` of the shape of `pixels`.

    Args:
        pixels: (B, D) on the CPU, `uint8` with `scale` standing for 1, or floating in [0, 1].
        scale: The `uint8` value that stands for 1.0.
        raw: What `stretches` returns for these images.
    """
    count, width = pixels.shape
    noise = raw.astype("<u8").view("<u2").reshape(count, -1)
    return torch.from_numpy((noise[:, :width] < thresholds(pixels, scale)).view(np.uint8))


def thresholds(pixels: Tensor, scale: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint32]]":
    """Returns the number of 16-bit values that mean a 1: 0 for black, 65,536 for white."""
    if pixels.dtype == torch.uint8:
        table = np.rint(np.arange(256) * (_LEVELS / scale)).astype(np.uint32)
        return np.take(table, pixels.numpy())
    return np.asarray(np.rint(pixels.double().numpy() * _LEVELS), dtype=np.uint32)
