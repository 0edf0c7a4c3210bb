"""The top-down VAE: a hierarchy on grids with residual networks."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.hierarchy import LevelObjective, LevelSpec, PathDecoder, PathPrior, ResidualPath, TopDownEncoder
from vaezoo.hierarchy.top_down import finest_channels, level_specs
from vaezoo.networks.convolutional import Upsampling
from vaezoo.registry import Architecture, Weight, register

BLOCKS, CHANNELS = (1, 1), 4  # of the default latent


def levels_of(architecture: Architecture, blocks: Sequence[int] = BLOCKS, flat: bool = False) -> list[LevelSpec]:
    """Returns the levels, the top one first; the last ones are on the backbone's grid."""
    finest = architecture.network().grid(architecture.shape, 1)
    return level_specs(finest[1:] if len(finest) == 3 and not flat else (1, 1), blocks)


@register(
    "top-down-vae",
    changes=("encoder", "decoder", "prior", "objective"),
    defaults={
        "backbone": "conv",
        "latent": lambda architecture: CHANNELS * sum(level.units for level in levels_of(architecture)),
    },
    rate="sampled",
    yields={"objective": "any"},
    acts_on={"free_bits": "objective"},
    example={"width": 8},
)
def top_down_vae(
    base: VAE,
    architecture: Architecture,
    *,
    blocks: Annotated[tuple[Annotated[int, Meta(ge=1, le=32)], ...], Meta(min_length=1, max_length=8)] = BLOCKS,
    width: Annotated[int, Meta(ge=4, le=4096)] = 32,
    flat: bool = False,
    free_bits: Weight = 0.0,
    upsampling: Upsampling = "transposed",
) -> VAE:
    r"""Minimizes D + R with latents on grids, where each level depends on all above it.

    $$D + \sum_l \max(R_l, \lambda), \qquad \log p(x) \ge \mathbb{E}_q[\log p(x|z)] - \sum_l \mathbb{E}_{q(z_{<l}|x)}
        \mathrm{KL}(q(z_l|x, z_{<l})\,\|\,p(z_l|z_{<l}))$$

    Hyperparameters:
        blocks: number of levels on each grid, the coarsest grid first.
        width: channels of the features on the finest grid; each coarser grid has twice those of the next.
        flat: whether all levels are on a single position, as with a perceptron; for convolutions that end in dense
            layers.
        free_bits: $\lambda \ge 0$, nats of each level without cost; a stage's own `free_bits` has the same meaning.
        upsampling: how features are doubled from grid to grid; all but "transposed" leave no checkerboard.

    The finest grid is the last one of the backbone (a single position for a perceptron); each other grid has half the
    size of the next. z contains the levels from the top down. The terms `rate_1`, `rate_2`, … are in closed form given
    the drawn z above; the rate is sampled. Posteriors are relative to priors, as in NVAE; the first batches set the
    initial scale of their means. Use it for the best likelihood of images.

    See also: `ladder-vae`, whose decoder receives the lowest level alone.

    References:
        Child (2021), https://arxiv.org/abs/2011.10650
        NVAE: Vahdat & Kautz (2020), https://arxiv.org/abs/2007.03898
    """
    levels = levels_of(architecture, blocks, flat)
    channels = finest_channels(architecture.latent, levels, "top-down-vae")
    network, context, finest = architecture.network(), architecture.context, (width, *levels[-1].grid)
    head, path = architecture.head(), ResidualPath(width, levels, channels, context, upsampling)
    stem = network.down(architecture.shape, (1, *finest), context)
    encoder = TopDownEncoder(stem, width, levels, channels)
    decoder = PathDecoder(network.up(finest, (head.outputs, *architecture.shape), context), head)
    objective = LevelObjective(free_bits=free_bits)
    return base.replace(encoder=encoder, decoder=decoder, prior=PathPrior(path), objective=objective)
