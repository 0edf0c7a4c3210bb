"""The vector-quantized VAE."""

from vaezoo.core import VAE
from vaezoo.quantization import CodebookEncoder, CommitmentObjective, Distance, Gradient, UniformCodePrior
from vaezoo.registry import Architecture, Codes, Share, Weight, code_defaults, register


@register(
    "vq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(64),
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
    example={"codes": 16},
)
def vq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Codes = 512,
    commitment: Weight = 0.25,
    decay: Share = 0.99,
    revival: Share = 0.05,
    distance: Distance = "euclidean",
    gradient: Gradient = "straight-through",
) -> VAE:
    r"""Minimizes distortion and commitment with each latent vector replaced by the nearest of V codes.

    $$D + \beta\,\|z_e(x) - \mathrm{sg}[e]\|^2, \qquad \log p(x) \ge \log p(x|e(x)) - N \log V$$

    Hyperparameters:
        codes: $V \ge 2$, number of codes.
        commitment: $\beta \ge 0$, weight of the squared distance of encoder outputs to their codes.
        decay: decay in [0, 1) of the moving averages that are the codes.
        revival: a code chosen less often than this fraction of an equal share is moved to a vector of the batch.
        distance: "euclidean", or "cosine", which normalizes vectors and codes first (Yu et al., 2022).
        gradient: gradient of the quantization: "straight-through", or "rotation", which rotates it like the vector to
            its code (Fifty et al., 2024), or "noise", which replaces the code in train mode by a point as far from the
            vector in a random direction (Vali and Bäckström, 2022).

    The latent shape is (D, *grid): D elements at each of N positions. The rate is that of the uniform prior, N·log V
    nats in closed form, and `sample` draws from that prior; `code-prior` learns another prior. The commitment is not a
    weight of the rate. Use it for sharp reconstructions and discrete codes.

    See also: `gumbel-vq-vae`, whose codes have probabilities; `fsq-vae` and `lfq-vae`, whose codes are not learned.

    References:
        van den Oord et al. (2017), https://arxiv.org/abs/1711.00937
        Cosine distance: Yu et al. (2022), https://arxiv.org/abs/2110.04627
        Rotation: Fifty et al. (2024), https://arxiv.org/abs/2410.06424
    """
    network = architecture.network().down(architecture.shape, (1, *architecture.latent), architecture.context)
    encoder = CodebookEncoder(
        network, architecture.latent, codes=codes, decay=decay, revival=revival, distance=distance, gradient=gradient
    )
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CommitmentObjective(commitment))
