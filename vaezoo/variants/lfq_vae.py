"""The VAE with lookup-free quantization."""

from functools import partial
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives import Penalty
from vaezoo.quantization import CodeObjective, SignEncoder, UniformCodePrior, commitment_distance, entropy_penalty
from vaezoo.registry import Architecture, Weight, code_defaults, register


@register(
    "lfq-vae",
    changes=("encoder", "prior", "objective"),
    defaults=code_defaults(9),
    couples_examples=True,
    codes_follow_prior=False,
    yields={"prior": "codes", "objective": "penalized"},
)
def lfq_vae(
    base: VAE,
    architecture: Architecture,
    *,
    entropy: Weight = 0.1,
    commitment: Weight = 0.25,
    temperature: Annotated[float, Meta(ge=1e-4, le=1e4)] = 1.0,
) -> VAE:
    r"""Quantizes each latent to its sign, with an entropy term that uses all codes and makes them certain.

    $$D + \beta\,\|y - z\|^2 + \gamma \sum_n \big(H[q(e|y_n)] - H[\bar q(e)]\big), \qquad
        z = \mathrm{sign}(y), \qquad q(e|y) \propto \exp(-\|y - e\|^2 / \tau), \qquad e \in \{-1, 1\}^D$$

    Hyperparameters:
        entropy: $\gamma \ge 0$, weight of the term that makes soft codes certain and their mean over the batch $\bar q$
            uniform.
        commitment: $\beta \ge 0$, weight of the squared distance of encoder outputs to their codes.
        temperature: $\tau > 0$ of the soft codes, which are used in this term alone.

    The latent shape is (D, *grid): $V = 2^D$ codes, none of them stored, with D up to 24. The mean over the batch
    couples examples. The rate is that of the uniform prior, N·log V nats in closed form; `code-prior` learns another
    prior. Use it for large vocabularies.

    See also: `fsq-vae`, which has more values for each latent and no entropy term.

    References: Yu et al. (2023), https://arxiv.org/abs/2310.05737
    """
    encoder = SignEncoder(architecture.down(1), architecture.latent, "lfq-vae")
    penalties: dict[str, tuple[float, Penalty]] = {
        "commitment": (commitment, commitment_distance),
        "entropy": (entropy, partial(entropy_penalty, temperature=temperature)),
    }
    return base.replace(encoder=encoder, prior=UniformCodePrior(), objective=CodeObjective(penalties))
