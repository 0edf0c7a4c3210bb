"""The VQ-VAE with a gradient for the codes of all indices."""

from functools import partial
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives import Penalty
from vaezoo.quantization import (
    CodeObjective,
    IndexEncoder,
    UniformCodePrior,
    codebook_distance,
    commitment_distance,
    index_distance,
    index_entropy,
    orthogonality,
)
from vaezoo.registry import Architecture, Codes, Weight, code_defaults, register


@register(
    "ibq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(64),
    couples_examples=True,
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
    example={"codes": 16},
)
def ibq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    codes: Codes = 512,
    commitment: Weight = 1.0,
    codebook: Weight = 0.25,
    entropy: Weight = 1.0,
    temperature: Annotated[float, Meta(ge=1e-4, le=1e4)] = 0.01,
    orthogonal: Weight = 0.0,
) -> VAE:
    r"""Takes the code with the largest scalar product, and differentiates its index as a softmax over all codes.

    $$D + \beta\,(\|y - z\|^2 + \|y - \mathrm{sg}[e]\|^2) + \alpha\,\|\mathrm{sg}[y] - e\|^2 +
        \gamma \sum_n \big(H[q(v|y_n)] - H[\bar q(v)]\big), \qquad z = E^\top (h + p - \mathrm{sg}[p]), \qquad
        p = \mathrm{softmax}(E y)$$

    Hyperparameters:
        codes: $V \ge 2$, number of codes, the rows of $E$, which are learned by gradients.
        commitment: $\beta \ge 0$, weight of the two distances that move encoder outputs, the first with all codes.
        codebook: $\alpha \ge 0$, weight of the distance that moves the chosen code.
        entropy: $\gamma \ge 0$, weight of the term that makes indices certain and their mean over the batch uniform.
        temperature: $\tau > 0$ of $q(v|y) \propto \exp(e_v^\top y / \tau)$ in the entropy term, 0.01 as in the
            paper; at 1 most codes stay unused.
        orthogonal: weight of the mean squared cosine of two codes (Shin et al., 2021).

    Here $h$ is the one-hot vector of the largest element of $p$ and $z = e$ its code; the gradient of $p$ reaches all
    codes at every step, which keeps them in use. The mean over the batch couples examples. The rate is that of the
    uniform prior, N·log V nats in closed form; `code-prior` learns another prior. Use it for large codebooks.

    See also: `gumbel-vq-vae`, whose codes are drawn with probabilities; `sim-vq-vae`, which moves all codes together.

    References: Shi et al. (2024), https://arxiv.org/abs/2412.02692
    """
    penalties: dict[str, tuple[float, Penalty]] = {
        "index": (commitment, index_distance),
        "commitment": (commitment, commitment_distance),
        "codebook": (codebook, codebook_distance),
        "entropy": (entropy, partial(index_entropy, temperature=temperature)),
        "orthogonality": (orthogonal, orthogonality),
    }
    encoder = IndexEncoder(architecture.down(1), architecture.latent, codes)
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CodeObjective(penalties))
