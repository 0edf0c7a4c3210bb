"""The ladder VAE."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from msgspec import Meta
from torch import nn

from vaezoo.core import VAE
from vaezoo.hierarchy import (
    BottomDecoder,
    LadderEncoder,
    LevelObjective,
    MarkovPath,
    PathPrior,
    halving_sizes,
    proposal,
)
from vaezoo.networks import MLP
from vaezoo.networks.perceptron import Width
from vaezoo.registry import Architecture, register


@register(
    "ladder-vae",
    changes=("encoder", "decoder", "prior", "objective"),
    year=2016,
    paper="Sønderby et al.",
    url="https://arxiv.org/abs/1602.02282",
    defaults={"latent": 124},
    rate="sampled",
    yields={"objective": "any"},
)
def ladder_vae(
    base: VAE,
    architecture: Architecture,
    *,
    widths: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=32)] = (512, 256, 128, 64, 64),
) -> VAE:
    r"""Minimises $D + R$ with a ladder of latents, whose posterior weighs what x says against what is above.

    $$q(z_l|x, z_{l+1}) \propto \mathcal{N}(z_l; \hat\mu_l(x), \hat\sigma_l^2(x))\;p(z_l|z_{l+1})$$

    Hyperparameters:
        widths: $w_l$ of the layers at each level, the lowest first; as many as there are levels.

    Each level has twice as many latents as the one above it: a latent of 124 is the paper's 64, 32, 16, 8 and 4. The
    backbone stands between x and the lowest level, perceptrons with leaky ReLUs between levels. The paper normalises
    over the batch, which would change buffers in a forward pass and couple examples; here the first images set the
    scale of each level at the start, and nothing is normalised after. The terms `rate_1`, `rate_2`, … (the top level's
    first) are closed forms given the drawn z above; the rate is sampled. When to use it: for many levels that stay in
    use, with a warm-up of the rate, free nats for each level early on (a stage's `free_bits`), and `clip`. It is
    confused with `two-layer-vae`, whose posterior goes from the bottom up only, and with `top-down-vae`, whose levels
    see all above.
    """
    sizes = halving_sizes(architecture.latent, "ladder-vae", len(widths))[::-1]
    shape, context = architecture.shape, architecture.context
    network, head = architecture.network(), architecture.head()
    rungs: list[nn.Module] = [network.down(shape, (widths[0],), context)]
    rungs += [MLP((low,), (high,), context, (high,), "leaky-relu") for low, high in pairwise(widths)]
    heads = [proposal(width, size) for width, size in zip(widths, sizes, strict=True)]
    between = [
        MLP((above,), (2, below), context, (width, width), "leaky-relu")
        for (below, above), width in zip(pairwise(sizes), widths[1:], strict=True)
    ]
    decoder = BottomDecoder(network.up((sizes[0],), (head.outputs, *shape), context), head, sizes[0])
    path = MarkovPath(sizes[::-1], between[::-1])
    encoder, prior = LadderEncoder(rungs, heads), PathPrior(path)
    return base.replace(encoder=encoder, decoder=decoder, prior=prior, objective=LevelObjective())
