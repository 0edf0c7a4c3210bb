"""The ladder VAE."""

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
    proposal_layer,
)
from vaezoo.networks import MLP
from vaezoo.networks.perceptron import Width
from vaezoo.registry import Architecture, register


@register(
    "ladder-vae",
    changes=("encoder", "decoder", "prior", "objective"),
    defaults={"latent": 124},
    rate="sampled",
    yields={"objective": "any"},
    example={"latent": 8, "widths": (32, 16)},
)
def ladder_vae(
    base: VAE,
    architecture: Architecture,
    *,
    widths: Annotated[tuple[Width, ...], Meta(min_length=1, max_length=32)] = (512, 256, 128, 64, 64),
) -> VAE:
    r"""Minimizes D + R with a hierarchy whose posteriors combine bottom-up proposals with top-down priors.

    $$q(z_l|x, z_{l+1}) \propto \mathcal{N}(z_l; \hat\mu_l(x), \hat\sigma_l^2(x))\;p(z_l|z_{l+1})$$

    Hyperparameters:
        widths: $w_l$, width of the layers at each level, the lowest first; one for each level.

    Each level has twice as many latents as the one above it: a latent of 124 is the paper's 64, 32, 16, 8 and 4. The
    backbone maps x to the lowest level, perceptrons with leaky ReLUs map between levels. The paper uses batch
    normalization, which would couple examples; here the first batches set the initial scale of each level. The terms
    `rate_1`, `rate_2`, … (from the top level down) are in closed form given the drawn z above; the rate is sampled. Use
    it for many levels that stay active, with a warm-up of the rate, free nats for each level at first (`free_bits` of a
    stage) and `clip`.

    See also: `two-layer-vae`, whose posterior is bottom-up only; `top-down-vae`, whose levels depend on all levels
    above.

    References: Sønderby et al. (2016), https://arxiv.org/abs/1602.02282
    """
    sizes = halving_sizes(architecture.latent, "ladder-vae", len(widths))[::-1]
    shape, context = architecture.shape, architecture.context
    network, head = architecture.network(), architecture.head()
    rungs: list[nn.Module] = [network.down(shape, (widths[0],), context)]
    rungs += [MLP((low,), (high,), context, (high,), "leaky-relu") for low, high in pairwise(widths)]
    heads = [proposal_layer(width, size) for width, size in zip(widths, sizes, strict=True)]
    between = [
        MLP((above,), (2, below), context, (width, width), "leaky-relu")
        for (below, above), width in zip(pairwise(sizes), widths[1:], strict=True)
    ]
    decoder = BottomDecoder(network.up((sizes[0],), (head.outputs, *shape), context), head, sizes[0])
    path = MarkovPath(sizes[::-1], between[::-1])
    encoder, prior = LadderEncoder(rungs, heads), PathPrior(path)
    return base.replace(encoder=encoder, decoder=decoder, prior=prior, objective=LevelObjective())
