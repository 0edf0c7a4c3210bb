"""The VAE with residual vector quantization."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.quantization import CommitmentObjective, Gradient, ResidualEncoder, UniformCodePrior
from vaezoo.registry import Architecture, Codes, Share, Weight, code_defaults, register


@register(
    "residual-vq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(64),
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
    example={"codes": 16, "depth": 2},
)
def residual_vq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    depth: Annotated[int, Meta(ge=1, le=64)] = 4,
    codes: Codes = 256,
    commitment: Weight = 0.25,
    decay: Share = 0.99,
    revival: Share = 0.05,
    gradient: Gradient = "straight-through",
) -> VAE:
    r"""Minimizes distortion and commitment with each latent replaced by a sum of codes.

    $$D + \beta \sum_{d=1}^M \|z_e(x) - \mathrm{sg}[e_1 + \dots + e_d]\|^2$$

    Hyperparameters:
        depth: $M \ge 1$, number of codebooks; each quantizes the remainder of the ones before it.
        codes: $V \ge 2$, number of codes of each codebook.
        commitment: $\beta \ge 0$, weight of the squared distance of encoder outputs to their codes.
        decay: decay in [0, 1) of the moving averages that are the codes.
        revival: a code chosen less often than this fraction of an equal share is moved to a vector of the batch.
        gradient: gradient of the quantization: "straight-through", "rotation" or "noise", as in `vq-vae`.

    The latent shape is (D, *grid), as in `vq-vae`. The rate is that of the uniform prior, N·M·log V nats in closed
    form; `code-prior` learns another prior over the indices, ordered by codebook. Each depth has its own codebook, as
    in SoundStream; Lee et al. share one. Use it where one code for each position is too coarse and more codes would not
    be used.

    See also: `vq-vae-2`, whose levels are on different grids.

    References:
        Lee et al. (2022), https://arxiv.org/abs/2203.01941
        SoundStream: Zeghidour et al. (2021), https://arxiv.org/abs/2107.03312
    """
    encoder = ResidualEncoder(
        architecture.down(1),
        architecture.latent,
        depth,
        codes=codes,
        decay=decay,
        revival=revival,
        gradient=gradient,
    )
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CommitmentObjective(commitment))
