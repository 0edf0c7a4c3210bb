"""The top-down VAE: a hierarchy of grids with residual networks both ways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.core.part import require_vector_latent
from vaezoo.errors import ShapeError
from vaezoo.hierarchy import (
    BottomUpNetwork,
    LevelObjective,
    LevelSpec,
    PathDecoder,
    PathPrior,
    RelativePosteriors,
    ResidualPath,
    TopDownEncoder,
    level_specs,
)
from vaezoo.registry import Architecture, register

BLOCKS, CHANNELS = (1, 1), 4  # what the default latent is made for


def levels(architecture: Architecture, blocks: Sequence[int], flat: bool = False) -> list[LevelSpec]:
    """Returns where each level stands, the top one first, down to the backbone's grid."""
    finest = architecture.network().grid(architecture.shape, 1)
    return level_specs((finest[1], finest[2]) if len(finest) == 3 and not flat else (1, 1), blocks)


def units(stood: Sequence[LevelSpec]) -> int:
    """Returns how many latents all levels have for each one at a position of the finest grid."""
    return sum(level.units for level in stood)


@register(
    "top-down-vae",
    changes=("encoder", "decoder", "prior", "objective"),
    year=2021,
    paper="Child",
    url="https://arxiv.org/abs/2011.10650",
    defaults={"backbone": "conv", "latent": lambda architecture: CHANNELS * units(levels(architecture, BLOCKS))},
    rate="sampled",
)
def top_down_vae(
    base: VAE,
    architecture: Architecture,
    *,
    blocks: Annotated[tuple[Annotated[int, Meta(ge=1, le=32)], ...], Meta(min_length=1, max_length=8)] = BLOCKS,
    width: Annotated[int, Meta(ge=4, le=4096)] = 32,
    flat: bool = False,
    free_bits: Annotated[float, Meta(ge=0, le=1e6)] = 0.0,
) -> VAE:
    r"""Minimises $D + \sum_l \max(R_l, \lambda)$ with latents on grids, each level drawn given all above it.

    $$\log p(x) \ge \mathbb{E}_q[\log p(x|z)] - \sum_l \mathbb{E}_{q(z_{<l}|x)}
        \mathrm{KL}(q(z_l|x, z_{<l})\,\|\,p(z_l|z_{<l}))$$

    Hyperparameters:
        blocks: how many levels stand on each grid, the coarsest first.
        width: channels of the features on the finest grid; each coarser one has twice those of the next.
        flat: all levels stand at one position, as they do with a perceptron; for convolutions that end in dense layers.
        free_bits: $\lambda \ge 0$, nats that each level may cost for nothing; a stage's own `free_bits` likewise.

    The finest grid is the backbone's coarsest (a perceptron's is one position), each other is half the next. z holds
    the levels from the top down. The terms `rate_1`, `rate_2`, … are closed forms given the drawn z above; the rate is
    sampled. Posteriors are relative to priors, after NVAE; the first images set how far they propose at the start.
    When to use it: for the best likelihood of images. It is confused with `ladder-vae`, whose decoder sees the lowest
    level alone.
    """
    stood = levels(architecture, blocks, flat)
    count = units(stood)
    channels, rest = divmod(require_vector_latent(architecture.latent, "top-down-vae", count), count)
    if rest:
        raise ShapeError(
            f"Got latent = {list(architecture.latent)}; top-down-vae expected a multiple of {count}, which blocks = "
            f"{list(blocks)} make. Choose latent = {channels * count}, for {channels} at each finest position."
        )
    network, context, finest = architecture.network(), architecture.context, (width, *stood[-1].grid)
    head, path = architecture.head(), ResidualPath(width, stood, channels, context)
    stem = network.down(architecture.shape, (1, *finest), context)
    encoder = TopDownEncoder(stem, BottomUpNetwork(width, stood), RelativePosteriors(width, stood, channels))
    decoder = PathDecoder(network.up(finest, (head.outputs, *architecture.shape), context), head)
    objective = LevelObjective(free_bits=free_bits)
    return base.replace(encoder=encoder, decoder=decoder, prior=PathPrior(path), objective=objective)
