"""Binarization of gray images for Bernoulli likelihoods.

A pixel of value p becomes 1 with probability p/255 (Salakhutdinov and Murray, 2008). *Dynamic* binarization samples for
every batch (as in Burda et al., 2016), *static* once for the whole set (as in Larochelle and Murray, 2011). Test sets
are always sampled once, with `TEST_SEED`, so that all models are measured on the same images.
"""

import math
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from vaezoo.core import rows_at_once
from vaezoo.data.dataset import Dataset
from vaezoo.data.streaming.dataset import StreamedDataset
from vaezoo.data.transforms.fixed_noise import binarized, check_probabilities
from vaezoo.errors import ConfigError, did_you_mean, shorten

BINARIZATIONS: Final = ("none", "dynamic", "static")
"""The accepted binarizations."""

TEST_SEED: Final = 20_080_705
"""Seed of the binarization of every test and validation set."""

STATIC_SEED: Final = 20_110_411
"""Seed of the static binarization of a training set."""

_LEVELS = 1 << 16
_CHUNK_BYTES = 1 << 24  # of noise at a time


def sample_binary(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Returns Bernoulli samples of the shape, type and device of `x`, whose values in [0, 1] are probabilities.

    Args:
        x: Probabilities of any shape, floating.
        generator: Generator on the device of `x`; None means torch's global one.

    On a CPU the probability of a 1 is exact to 8·10⁻⁶, and 0 and 1 are exact.
    """
    # In place: making booleans and converting them takes several times longer on a CPU.
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device).lt_(x)
    # One 64-bit word gives four pixels their 16 bits each, compared with the rounded probability.
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    noise = words.view(torch.int16)[: x.numel()].view(x.shape).to(x.dtype)
    return noise.lt_((x * _LEVELS).sub_(0.5 * _LEVELS + 0.5))


def binarize(dataset: Dataset, how: str) -> Dataset:
    """Returns the set as used for training or evaluation under a recipe's `binarize = how`.

    | `how` | training set | test and validation set |
    | --- | --- | --- |
    | `none` | unchanged | unchanged |
    | `dynamic` | marked; the trainer calls `sample_binary` on each batch | sampled once with `TEST_SEED` |
    | `static` | sampled once with `STATIC_SEED` | sampled once with `TEST_SEED` |

    A set that is already binarized statically is returned unchanged.

    Raises:
        ConfigError: `how` is not one of `BINARIZATIONS`.
        DataError: Floating values lie outside [0, 1].
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
    if not isinstance(dataset, StreamedDataset):
        check_probabilities(dataset.images, dataset.name)
    elif dataset.images.is_floating_point():
        for part in dataset.batches(torch.arange(len(dataset)).split(rows_at_once(dataset.shape))):
            check_probabilities(part, dataset.name)
    return replace(dataset, binarization="dynamic")


def binarize_fixed(dataset: Dataset, seed: int) -> Dataset:
    """Samples the whole set once: `uint8` images of 0 and 1, `scale=1`, binarization `"static"`.

    The noise is raw PCG64 output, whose stream NumPy guarantees across versions: a seed gives the same images on every
    platform. Image i uses the i-th section of the stream, whatever the number of images. (A subset counts from 0 again:
    binarize first, then take the subset.) The probability of a 1 is exact to 8·10⁻⁶.

    Args:
        dataset: Images of shape (N, *shape), `uint8` or floating in [0, 1], on any device.
        seed: A non-negative integer.

    Raises:
        DataError: A floating value lies outside [0, 1].
    """
    if isinstance(dataset, StreamedDataset):
        return dataset.drawn_once(seed)
    check_probabilities(dataset.images, dataset.name)
    step = max(1, _CHUNK_BYTES // (8 * math.prod(dataset.shape)))
    images = torch.empty_like(dataset.images, dtype=torch.uint8)
    for part in torch.arange(len(dataset)).split(step):
        pixels = dataset.images[part[0] : part[-1] + 1].cpu()
        images[part[0] : part[-1] + 1] = binarized(pixels, dataset.scale, seed, part.tolist())
    return replace(dataset, images=images, scale=1, binarization="static")
