"""The VQ-VAE whose codes are one linear map of constant vectors."""

from vaezoo.core import VAE
from vaezoo.quantization import (
    CodeObjective,
    Gradient,
    LinearCodebookEncoder,
    UniformCodePrior,
    codebook_distance,
    commitment_distance,
    orthogonality,
)
from vaezoo.registry import Architecture, Codes, Weight, code_defaults, register


@register(
    "sim-vq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(64),
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
    example={"codes": 16, "kmeans": True},
)
def sim_vq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Codes = 512,
    commitment: Weight = 0.25,
    orthogonal: Weight = 0.0,
    kmeans: bool = False,
    gradient: Gradient = "straight-through",
) -> VAE:
    r"""Minimizes distortion, commitment and the distance of codes that are one learned linear map of constant vectors.

    $$D + \|\mathrm{sg}[z_e(x)] - W c\|^2 + \beta\,\|z_e(x) - \mathrm{sg}[W c]\|^2, \qquad
        i_n = \arg\min_v \|z_{e,n} - W c_v\|^2$$

    Hyperparameters:
        codes: $V \ge 2$, number of constant vectors $c_v$, and of codes $W c_v$.
        commitment: $\beta \ge 0$, weight of the squared distance of encoder outputs to their codes.
        orthogonal: weight of the mean squared cosine of two codes (Shin et al., 2021).
        kmeans: whether the constant vectors are centers of k-means on encoder outputs; otherwise they are normal.
        gradient: gradient of the quantization: "straight-through", "rotation" or "noise", as in `vq-vae`.

    Only $W$ is learned, D × D numbers that start as the identity. Its gradient moves all codes, also those that no
    vector chooses, which keeps them in use without revival. The latent shape is (D, *grid). The rate is that of the
    uniform prior, N·log V nats in closed form; `code-prior` learns another prior. Use it for large codebooks, of which
    `vq-vae` leaves a large part unused.

    See also: `vq-vae`, whose codes are moving averages; `ibq-vae`, whose codes all have a gradient of their own.

    References: Zhu et al. (2024), https://arxiv.org/abs/2411.02038
    """
    encoder = LinearCodebookEncoder(
        architecture.down(1), architecture.latent, codes=codes, gradient=gradient, from_data=kmeans
    )
    objective = CodeObjective({
        "codebook": (1.0, codebook_distance),
        "commitment": (commitment, commitment_distance),
        "orthogonality": (orthogonal, orthogonality),
    })  # fmt: skip
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=objective)
