"""Binarization: what turns grey pixels into data that a Bernoulli likelihood has a density for.

A pixel of value p becomes 1 with probability p/255 (Salakhutdinov and Murray, 2008). *Dynamic* draws anew for every
batch (as in Burda et al., 2016), *static* draws once for the whole set (as in Larochelle and Murray, 2011). Test sets
are always drawn once, with `TEST_SEED`, so that figures of two models are figures on the same images.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vaezoo.data.dataset import Dataset
from vaezoo.data.streaming.dataset import StreamedDataset
from vaezoo.data.transforms.fixed_noise import ones, words_for
from vaezoo.errors import ConfigError, DataError, did_you_mean, shorten

BINARIZATIONS: Final = ("none", "dynamic", "static")
"""Every accepted binarization."""

TEST_SEED: Final = 20_080_705
"""The seed with which every test and validation set is binarized, whatever the training set does."""

STATIC_SEED: Final = 20_110_411
"""The seed with which a training set is binarized under `"static"`."""

_LEVELS = 1 << 16
_CHUNK_BYTES = 1 << 24


def sample_binary(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Returns a Bernoulli draw of the same shape, type and device as `x`, whose values in [0, 1] are probabilities.

    Args:
        x: Probabilities of any shape, floating.
        generator: Where the noise comes from, on the device of `x`; None draws from torch's global state.

    On a CPU the probability of a 1 is exact to 8·10⁻⁶, and 0 and 1 are exact.
    """
    # In place: a comparison that makes booleans, to be converted, costs several times more on a CPU.
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device).lt_(x)
    # 16 bits for each pixel out of one word for four, from -32,768 to 32,767, to be below the rounded probability.
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    noise = words.view(torch.int16)[: x.numel()].view(x.shape).to(x.dtype)
    return noise.lt_((x * _LEVELS).sub_(0.5 * _LEVELS + 0.5))


def binarize(dataset: Dataset, how: str) -> Dataset:
    """Returns the set as training or evaluation should see it under a recipe's `binarize = how`.

    | `how` | training set | test and validation set |
    | --- | --- | --- |
    | `none` | unchanged | unchanged |
    | `dynamic` | unchanged, marked: the trainer calls `draw` on each batch | drawn once with `TEST_SEED` |
    | `static` | drawn once with `STATIC_SEED` | drawn once with `TEST_SEED` |

    A set that was drawn before is returned as it is.

    Raises:
        ConfigError: `how` is none of `BINARIZATIONS`.
        DataError: The values are no probabilities (a floating set with values outside [0, 1]).
    """
    if how not in BINARIZATIONS:
        raise ConfigError(
            f"Got binarization {shorten(how)}; expected one of {', '.join(BINARIZATIONS)}."
            f"{did_you_mean(how, BINARIZATIONS)}"
        )
    if how == "none" or dataset.binarization == "static":
        return dataset
    if dataset.split in ("test", "validation"):
        return binarize_fixed(dataset, TEST_SEED)
    if how == "static":
        return binarize_fixed(dataset, STATIC_SEED)
    _check_probabilities(dataset)
    return replace(dataset, binarization="dynamic")


def binarize_fixed(dataset: Dataset, seed: int) -> Dataset:
    """Draws the whole set once: `uint8` images of 0 and 1, `scale=1`, binarization `"static"`.

    The noise is raw PCG64 output, whose stream NumPy guarantees for good, so a seed means the same images on every
    platform and library version. Image i uses the i-th stretch of the stream: the first images of a set are drawn
    alike however many follow. (A subset counts anew: binarize first, then take the subset.) The probability of a 1
    is exact to 8·10⁻⁶.

    Args:
        dataset: Images of shape (N, *shape), `uint8` or floating in [0, 1], on any device.
        seed: A non-negative integer.

    Raises:
        DataError: A floating value lies outside [0, 1].
    """
    if isinstance(dataset, StreamedDataset):
        return dataset.drawn_once(seed)
    _check_probabilities(dataset)
    pixels = dataset.images.flatten(1)
    count, width = pixels.shape
    words = words_for(width)
    stream = np.random.PCG64(seed)
    result = torch.empty(count, width, dtype=torch.uint8)
    step = max(1, _CHUNK_BYTES // (8 * width))
    for start in range(0, count, step):
        chunk = pixels[start : start + step].cpu()
        result[start : start + step] = ones(chunk, dataset.scale, stream.random_raw(len(chunk) * words))
    images = result.reshape(dataset.images.shape).to(dataset.images.device)
    return replace(dataset, images=images, scale=1, binarization="static")


def _check_probabilities(dataset: Dataset) -> None:
    if dataset.images.is_floating_point():
        low, high = float(dataset.images.min()), float(dataset.images.max())
        if low < 0 or high > 1:
            raise DataError(
                f"{dataset.name}: got values from {low:.4g} to {high:.4g}; expected values in [0, 1] to binarize. "
                'Rescale them, or set binarize = "none" and choose a likelihood for continuous data.'
            )
