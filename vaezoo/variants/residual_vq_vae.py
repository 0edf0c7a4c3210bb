"""The VAE with residual vector quantization."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.quantization import CommitmentObjective, UniformCodePrior
from vaezoo.quantization.residual import ResidualEncoder
from vaezoo.registry import Architecture, register
from vaezoo.registry.architecture import code_defaults


@register(
    "residual-vq-vae",
    changes=("encoder", "prior", "objective"),
    year=2022,
    paper="Lee et al.",
    url="https://arxiv.org/abs/2203.01941",
    defaults=code_defaults(64),
    yields={"prior": "codes"},
)
def residual_vq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    depth: Annotated[int, Meta(ge=1, le=64)] = 4,
    codes: Annotated[int, Meta(ge=2, le=65536)] = 256,
    commitment: Annotated[float, Meta(ge=0, le=1e6)] = 0.25,
    decay: Annotated[float, Meta(ge=0, lt=1)] = 0.99,
    revival: Annotated[float, Meta(ge=0, lt=1)] = 0.05,
) -> VAE:
    r"""Minimises $D + \beta \sum_{d=1}^M \|z_e(x) - \mathrm{sg}[e_1 + \dots + e_d]\|^2$, each latent a sum of M codes.

    Hyperparameters:
        depth: $M$, how many codebooks; each has a code for what the ones before it left.
        codes: $V$, codes of each.
        commitment, decay, revival: $\beta$ and the others as in `vq-vae`.

    The latent shape is (D, *grid), as in `vq-vae`. The rate is that of the uniform prior, N·M·log V nats in closed
    form; `code-prior` learns another, and reads the indices codebook after codebook. Each codebook is of its own, as in
    SoundStream (Zeghidour et al., 2021, https://arxiv.org/abs/2107.03312); Lee et al. share one. When to use it: where
    one code for each position is too coarse and many more codes would not be used. It is confused with `vq-vae-2`,
    whose levels lie on different grids.
    """
    encoder = ResidualEncoder(
        architecture.down(1), architecture.latent, depth, codes=codes, decay=decay, revival=revival
    )
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CommitmentObjective(commitment))
