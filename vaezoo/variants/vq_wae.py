"""The VQ-VAE whose codes are matched to the encoder's outputs by optimal transport."""

from functools import partial
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.quantization import CodeObjective, Gradient, LearnedCodebookEncoder, UniformCodePrior, transport_distance
from vaezoo.registry import Architecture, Codes, Weight, code_defaults, register


@register(
    "vq-wae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(64),
    couples_examples=True,
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
    example={"codes": 16, "kmeans": True},
)
def vq_wae(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Codes = 512,
    transport: Weight = 1.0,
    entropy: Annotated[float, Meta(ge=1e-3, le=1e3)] = 0.05,
    kmeans: bool = False,
    gradient: Gradient = "straight-through",
) -> VAE:
    r"""Minimizes D and the optimal transport of the batch's encoder outputs to codes of equal mass.

    $$D + w N \min_P \sum_{nv} P_{nv} \|y_n - e_v\|^2, \qquad
        \sum_v P_{nv} = \frac1R, \quad \sum_n P_{nv} = \frac1V$$

    Hyperparameters:
        codes: $V \ge 2$, number of codes, which are learned by gradients.
        transport: $w \ge 0$, weight of the transport, which moves codes and encoder outputs.
        entropy: weight of the entropy of the plan $P$, as a share of the mean cost; small values make it one-to-one.
        kmeans: whether the first codes are centers of k-means on encoder outputs; otherwise they are normal.
        gradient: gradient of the quantization: "straight-through", "rotation" or "noise", as in `vq-vae`.

    All codes have the same mass in $P$, so that each one is moved towards its share of the R outputs, and all are
    used. The plan is found by Sinkhorn's iterations for each batch, which couples examples; in the paper a network
    estimates its dual, and the masses of codes may be learned. The rate is that of the uniform prior, N·log V nats in
    closed form; `code-prior` learns another prior. Use it if the codes of `vq-vae` die.

    See also: `vq-vae`, whose codes are moving averages; `wae-mmd`, which matches continuous latents to a prior.

    References: Vuong et al. (2023), https://arxiv.org/abs/2302.05917
    """
    encoder = LearnedCodebookEncoder(
        architecture.down(1), architecture.latent, codes=codes, gradient=gradient, from_data=kmeans
    )
    objective = CodeObjective({"transport": (transport, partial(transport_distance, entropy=entropy))})
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=objective)
