"""VQ-VAE-2: codes on two grids."""

import math

from vaezoo.core import VAE
from vaezoo.decoders import Decoder
from vaezoo.errors import ShapeError
from vaezoo.quantization import CommitmentObjective, TwoGridEncoder, TwoGridNetwork, UniformCodePrior, grids_of
from vaezoo.registry import Architecture, Codes, Share, Weight, code_defaults, register


def latent_for(architecture: Architecture, width: int = 32) -> tuple[int, int]:
    """Returns the latent shape (width, positions of both grids)."""
    return width, sum(map(math.prod, grids_of(architecture.network().grid, architecture.shape, width)))


@register(
    "vq-vae-2",
    changes=("encoder", "decoder", "prior", "objective"),
    defaults=code_defaults(32) | {"latent": latent_for},
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
    example={"codes": 16},
)
def vq_vae_2(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Codes = 512,
    commitment: Weight = 0.25,
    decay: Share = 0.99,
    revival: Share = 0.05,
) -> VAE:
    r"""Minimizes distortion and commitment with codes on two grids, a coarse and a fine one.

    $$D + \beta\,\|y_t - \mathrm{sg}[e_t]\|^2 + \beta\,\|y_b - \mathrm{sg}[e_b]\|^2, \qquad
        y_t = f_t(h(x)), \qquad y_b = h(x) + g(e_t), \qquad p(x | e_t, e_b)$$

    Hyperparameters:
        codes: $V \ge 2$, number of codes of each level.
        commitment: $\beta \ge 0$, weight of the squared distance of encoder outputs to their codes.
        decay: decay in [0, 1) of the moving averages that are the codes.
        revival: a code chosen less often than this fraction of an equal share is moved to a vector of the batch.

    The bottom grid is that of the backbone for x, the top grid that of the backbone for the bottom grid; the decoder
    receives both. The latent shape is (D, positions of the top and then of the bottom). The rate is that of the uniform
    prior, (N_t + N_b)·log V nats in closed form; `code-prior` learns another prior, top first, where the paper has a
    network for each level. Use it for larger images, whose global structure is coded on the coarse grid.

    See also: `residual-vq-vae`, whose codes share one grid and are summed.

    References: Razavi et al. (2019), https://arxiv.org/abs/1906.00446
    """
    network, context, likelihood = architecture.network(), architecture.context, architecture.head()
    latent, shape, width = architecture.latent, architecture.shape, architecture.latent[0]
    grids = grids_of(network.grid, shape, width)
    if latent != latent_for(architecture, width):
        raise ShapeError(
            f"Got latent = {list(latent)}; vq-vae-2 on grids of {' and '.join(map(str, grids))} expected "
            f"{list(latent_for(architecture, width))}: elements of a code, and positions."
        )
    top, bottom = ((width, *grid) for grid in grids)
    down = network.down(shape, (1, *bottom), context), network.down(bottom, (1, *top), context)
    back = network.up(top, (1, *bottom), context)
    encoder = TwoGridEncoder(*down, back, latent, grids, codes=codes, decay=decay, revival=revival)
    back = network.up(top, (1, *bottom), context)
    up = network.up((2 * width, *grids[1]), (likelihood.outputs, *shape), context)
    decoder = Decoder(TwoGridNetwork(back, up, grids), likelihood)
    prior, objective = UniformCodePrior(), CommitmentObjective(commitment)
    return base.replace(encoder=encoder, decoder=decoder, prior=prior, objective=objective)
