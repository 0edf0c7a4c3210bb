"""Backbones: pairs of networks, `down` from x to the encoder's output and `up` from z to the likelihood's parameters.

One file is one registered name: `vaezoo/backbones/mlp.py` is `mlp`. A backbone is a function of its options that
returns a `Backbone`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vaezoo.networks import Network


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """Builders of networks, and what depends on the shapes of x and z.

    `down(shape, out, context)` and `up(latent, out, context)` return networks. `grid(shape, channels)` returns the
    shape of a latent that needs no dense layers, with `channels` numbers at each position. `defaults(shape, latent)`
    returns the defaults of options that depend on the shapes of x and z; `create` sets those that were not given.
    """

    down: Callable[[Sequence[int], Sequence[int], int], Network]
    up: Callable[[Sequence[int], Sequence[int], int], Network]
    grid: Callable[[Sequence[int], int], tuple[int, ...]]
    defaults: Callable[[Sequence[int], Sequence[int]], Mapping[str, object]] = lambda shape, latent: {}
