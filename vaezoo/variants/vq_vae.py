"""The vector-quantised VAE."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.quantization import CodebookEncoder, CommitmentObjective, Distance, Gradient, UniformCodePrior
from vaezoo.registry import Architecture, register
from vaezoo.registry.architecture import code_defaults

WIDTH = 64  # numbers in a code unless `latent` says otherwise


@register(
    "vq-vae",
    changes=("encoder", "prior", "objective"),
    year=2017,
    paper="van den Oord et al.",
    url="https://arxiv.org/abs/1711.00937",
    defaults=code_defaults(WIDTH),
    yields={"prior": "codes"},
)
def vq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Annotated[int, Meta(ge=2, le=65536)] = 512,
    commitment: Annotated[float, Meta(ge=0, le=1e6)] = 0.25,
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.99,
    revival: Annotated[float, Meta(ge=0, lt=1)] = 0.05,
    distance: Distance = "euclidean",
    gradient: Gradient = "straight-through",
) -> VAE:
    r"""Minimises $D + \beta\,\|z_e(x) - \mathrm{sg}[e]\|^2$, with the latents replaced by the nearest of V codes.

    $$\log p(x) \ge \log p(x|e(x)) - N \log V$$

    Hyperparameters:
        codes: $V$, how many codes there are.
        commitment: $\beta \ge 0$, what it costs the encoder to stay away from its code.
        decay: of the moving averages that the codes follow.
        revival: a code chosen less often than this share of an equal share is moved to a vector of the batch.
        distance: "euclidean", or "cosine": vectors and codes are put on the unit sphere first (Yu et al., 2022).
        gradient: how it passes the codes: "straight-through", or turned like the vector to its code ("rotation", Fifty
            et al., 2024).

    The latent shape is (D, *grid): D numbers at each of N positions. The rate is that of the uniform prior, N·log V
    nats in closed form, and `sample` draws from that prior; `code-prior` learns another. When to use it: for sharp
    reconstructions and discrete codes. It has no KL weight to tune; its commitment is confused with one.
    """
    network = architecture.network().down(architecture.shape, (1, *architecture.latent), architecture.context)
    encoder = CodebookEncoder(
        network, architecture.latent, codes=codes, decay=decay, revival=revival, distance=distance, gradient=gradient
    )
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CommitmentObjective(commitment))
