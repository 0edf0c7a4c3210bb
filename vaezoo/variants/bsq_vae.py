"""The VAE with binary spherical quantization."""

from functools import partial
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives import Penalty
from vaezoo.quantization import CodeObjective, SphereEncoder, UniformCodePrior, bit_entropy, commitment_distance
from vaezoo.registry import Architecture, Weight, code_defaults, register


@register(
    "bsq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(9),
    couples_examples=True,
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
)
def bsq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    entropy: Weight = 0.1,
    commitment: Weight = 0.0,
    temperature: Annotated[float, Meta(ge=1e-4, le=1e4)] = 1.0,
) -> VAE:
    r"""Projects each latent vector to the sphere and quantizes it to the signs of its elements, with an entropy term.

    $$D + \beta\,\|u - z\|^2 + \gamma \sum_n \Big(H[q(e|u_n)] - \sum_d H[\bar q(e_d)]\Big), \qquad
        u = \frac{y}{\|y\|}, \quad z = \frac{\mathrm{sign}(u)}{\sqrt D}, \quad q(e|u) \propto e^{-\|u - e\|^2 / \tau}$$

    Hyperparameters:
        entropy: $\gamma \ge 0$, weight of the term that makes soft codes certain and the mean of each bit over the
            batch, $\bar q(e_d)$, uniform.
        commitment: $\beta \ge 0$, weight of the squared distance of unit vectors to their codes, which is below 2.
        temperature: $\tau > 0$ of the soft codes, which are used in the entropy term alone.

    The latent shape is (D, *grid): $V = 2^D$ codes, none of them stored, with D up to 24. All codes have length 1, so
    that the error of the quantization is bounded. Bits of the mean are taken as independent, so that the term is linear
    in D; this and its mean over the batch couples examples. The rate is that of the uniform prior, N·log V nats in
    closed form; `code-prior` learns another prior. Use it for large vocabularies.

    See also: `lfq-vae`, whose vectors are not projected and whose entropy of the mean is that of all codes.

    References: Zhao et al. (2024), https://arxiv.org/abs/2406.07548
    """
    encoder = SphereEncoder(architecture.down(1), architecture.latent, "bsq-vae")
    penalties: dict[str, tuple[float, Penalty]] = {
        "commitment": (commitment, commitment_distance),
        "entropy": (entropy, partial(bit_entropy, temperature=temperature)),
    }
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CodeObjective(penalties))
