"""Limits on the number of weights of a network, checked before anything is allocated."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from vaezoo.errors import ShapeError, warn

LARGE_NETWORK = 2**28  # weights: 1 GiB of float32; larger networks are seldom intended
LARGEST_NETWORK = 2**34  # weights: 64 GiB of float32


def check_weights(
    name: str, layers: Iterable[int], advice: str = "Choose a smaller shape, latent, context or width."
) -> None:
    """Validates the total size of the layers of `name`, given the number of weights of each; warns if it is large.

    Raises:
        ShapeError: more than `LARGEST_NETWORK` weights in all.
    """
    total = sum(layers)
    if total > LARGEST_NETWORK:
        raise ShapeError(f"Got a {name} of {total:,} weights; expected at most {LARGEST_NETWORK:,}. {advice}")
    if total > LARGE_NETWORK and not torch.empty(0).is_meta:
        warn(f"The {name} has {total:,} weights, {total / 2**28:.1f} GiB of float32. {advice}")
