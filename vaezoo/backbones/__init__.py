"""Backbones: pairs of networks, `down` from x to the encoder's output and `up` from z to the likelihood's parameters.

One file is one registered name: `vaezoo/backbones/mlp.py` is `mlp`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vaezoo.networks.network import Network


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Two builders of networks; `down(shape, out, context)` and `up(latent, out, context)` return modules.

    `grid(shape, channels)` is the latent shape that comes naturally to it, with `channels` numbers at each position.
    """

    down: Callable[[Sequence[int], Sequence[int], int], Network]
    up: Callable[[Sequence[int], Sequence[int], int], Network]
    grid: Callable[[Sequence[int], int], tuple[int, ...]]
