"""The VAE with product codes."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.quantization import CommitmentObjective, Distance, Gradient, GroupedEncoder, UniformCodePrior
from vaezoo.registry import Architecture, Codes, Share, Weight, code_defaults, register


@register(
    "grouped-vq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(64),
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
    example={"codes": 16, "groups": 2},
)
def grouped_vq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    groups: Annotated[int, Meta(ge=1, le=64)] = 4,
    codes: Codes = 256,
    commitment: Weight = 0.25,
    decay: Share = 0.99,
    revival: Share = 0.05,
    distance: Distance = "euclidean",
    gradient: Gradient = "straight-through",
) -> VAE:
    r"""Minimizes distortion and commitment with each group of channels replaced by the nearest code of its codebook.

    $$D + \beta \sum_{g=1}^G \|y_g - \mathrm{sg}[e_g]\|^2, \qquad y = z_e(x) = (y_1, \dots, y_G)$$

    Hyperparameters:
        groups: $G \ge 1$, number of groups of channels, each with its codebook; a divisor of D.
        codes: $V \ge 2$, number of codes of each codebook: $V^G$ products at each position.
        commitment: $\beta \ge 0$, weight of the squared distance of encoder outputs to their codes.
        decay: decay in [0, 1) of the moving averages that are the codes.
        revival: a code chosen less often than this fraction of an equal share is moved to a vector of the batch.
        distance: "euclidean", or "cosine", which normalizes vectors and codes of each group first.
        gradient: gradient of the quantization: "straight-through", "rotation" or "noise", as in `vq-vae`.

    The latent shape is (D, *grid). The rate is that of the uniform prior, N·G·log V nats in closed form; `code-prior`
    learns another prior over the indices, ordered by group. Product codes are those of Jégou et al.; Baevski et al. use
    them in a network (wav2vec 2.0). Use it where one codebook of $V^G$ codes would not be used in full.

    See also: `residual-vq-vae`, whose codebooks refine each other; `fsq-vae`, whose groups are single numbers.

    References:
        Baevski et al. (2020), https://arxiv.org/abs/2006.11477
        Product codes: Jégou et al. (2011), https://doi.org/10.1109/TPAMI.2010.57
    """
    encoder = GroupedEncoder(
        architecture.down(1),
        architecture.latent,
        groups,
        codes=codes,
        decay=decay,
        revival=revival,
        distance=distance,
        gradient=gradient,
    )
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CommitmentObjective(commitment))
