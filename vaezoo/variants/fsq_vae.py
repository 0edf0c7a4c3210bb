"""The VAE with finite scalar quantization."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.quantization import CodeObjective, ScalarEncoder, UniformCodePrior
from vaezoo.registry import Architecture, code_defaults, register


@register(
    "fsq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(4),
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
)
def fsq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    levels: Annotated[tuple[Annotated[int, Meta(ge=3, le=256)], ...], Meta(min_length=1, max_length=16)] = (8, 5, 5, 5),
) -> VAE:
    r"""Minimizes the distortion with each latent rounded to one of a few values; no code is learned.

    $$V = \prod_j L_j, \qquad
        z_j = \mathrm{round}\big(\tfrac{L_j - 1}{2} \tanh(y_j + s_j) - o_j\big) / \lfloor L_j / 2 \rfloor$$

    Hyperparameters:
        levels: $(L_1, \dots, L_D)$, each at least 3; the paper's (8, 5, 5, 5) gives 1,000 codes.

    The latent shape is (D, *grid), where D is the length of `levels`. $o_j = \tfrac12$ for an even $L_j$, else 0; $s_j$
    maps y = 0 to 0. There is no codebook that could collapse, and no commitment. The rate is that of the uniform prior,
    N·log V nats in closed form; `code-prior` learns another prior. Use it instead of `vq-vae` where few codes are used,
    or for large vocabularies.

    See also: `lfq-vae`, which has two values for each of more latents and an entropy term.

    References: Mentzer et al. (2023), https://arxiv.org/abs/2309.15505
    """
    network = architecture.down(1)
    encoder = ScalarEncoder(network, architecture.latent, levels, "fsq-vae")
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CodeObjective())
