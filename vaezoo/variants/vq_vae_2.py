"""VQ-VAE-2: codes on two grids."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.decoders import Decoder
from vaezoo.errors import ShapeError
from vaezoo.quantization import CommitmentObjective, TwoGridEncoder, TwoGridNetwork, UniformCodePrior
from vaezoo.registry import Architecture, register
from vaezoo.registry.architecture import code_defaults

WIDTH = 32  # numbers in a code unless `latent` says otherwise
Grid = tuple[int, ...]


def grids_of(architecture: Architecture, width: int) -> tuple[Grid, Grid]:
    """Returns the grids of top and bottom: what the backbone makes of x is the bottom, of that again the top."""
    network = architecture.network()
    bottom = network.grid(architecture.shape, width)
    return network.grid(bottom, width)[1:], bottom[1:]


def default_latent(architecture: Architecture) -> Grid:
    """Returns the latent (WIDTH, positions of both grids)."""
    return WIDTH, sum(map(math.prod, grids_of(architecture, WIDTH)))


@register(
    "vq-vae-2",
    changes=("encoder", "decoder", "prior", "objective"),
    year=2019,
    paper="Razavi et al.",
    url="https://arxiv.org/abs/1906.00446",
    defaults=code_defaults(WIDTH) | {"latent": default_latent},
    yields={"prior": "codes"},
)
def vq_vae_2(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Annotated[int, Meta(ge=2, le=65536)] = 512,
    commitment: Annotated[float, Meta(ge=0, le=1e6)] = 0.25,
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.99,
    revival: Annotated[float, Meta(ge=0, lt=1)] = 0.05,
) -> VAE:
    r"""Minimises $D + \beta\,\|y_t - \mathrm{sg}[e_t]\|^2 + \beta\,\|y_b - \mathrm{sg}[e_b]\|^2$, codes on two grids.

    $$y_t = f_t(h(x)), \qquad y_b = h(x) + g(e_t), \qquad p(x | e_t, e_b)$$

    Hyperparameters:
        codes: $V$, how many codes each level has.
        commitment, decay, revival: $\beta$ and the others as in `vq-vae`.

    The bottom's grid is what the backbone makes of x, the top's what it makes of that once more; the decoder sees both.
    The latent is (D, positions of the top and then of the bottom). The rate is that of the uniform prior,
    (N_t + N_b)·log V nats in closed form; `code-prior` learns another, top first, where the paper has a network for
    each level. When to use it: for larger images, with what is global on the coarse grid. It is confused with
    `residual-vq-vae`, whose codes share one grid and are summed.
    """
    width, grids = architecture.latent[0], grids_of(architecture, architecture.latent[0])
    wanted = (width, sum(map(math.prod, grids)))
    if architecture.latent != wanted:
        raise ShapeError(
            f"Got latent = {list(architecture.latent)}; vq-vae-2 on grids of {' and '.join(map(str, grids))} expected "
            f"{list(wanted)}: numbers in a code, and positions."
        )
    network, context, likelihood = architecture.network(), architecture.context, architecture.head()
    top, bottom = ((width, *grid) for grid in grids)
    encoder = TwoGridEncoder(
        network.down(architecture.shape, (1, *bottom), context),
        network.down(bottom, (1, *top), context),
        network.up(top, (1, *bottom), context),
        wanted,
        grids,
        codes=codes,
        decay=decay,
        revival=revival,
    )
    both = (2 * width, *grids[1])
    decoder = TwoGridNetwork(
        network.up(top, (1, *bottom), context),
        network.up(both, (likelihood.outputs, *architecture.shape), context),
        grids,
    )
    return base.replace(
        encoder=encoder,
        decoder=Decoder(decoder, likelihood),
        prior=UniformCodePrior(),
        objective=CommitmentObjective(commitment),
    )
