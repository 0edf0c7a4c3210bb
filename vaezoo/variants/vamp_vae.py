"""The VAE with a variational mixture of posteriors as prior."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.priors import VampPrior
from vaezoo.registry import Architecture, register


@register(
    "vamp-vae",
    changes="prior",
    rate="sampled",
    offers="posteriors",
    instead={
        "two-layer-vae": "The mixture would replace both levels: the upper one would have no effect. Use 'vamp-vae'."
    },
    example={"pseudo_inputs": 4},
)
def vamp_vae(
    base: VAE, architecture: Architecture, *, pseudo_inputs: Annotated[int, Meta(ge=1, le=1_000_000)] = 500
) -> VAE:
    r"""Minimizes D + R with a mixture of posteriors as prior.

    $$p(z) = \frac1M \sum_{m=1}^M q(z|u_m)$$

    Hyperparameters:
        pseudo_inputs: $M \ge 1$, number of $u_m$; 500 in the paper. Each step encodes all of them.

    The $u_m$ are learned and initialized with training images. The paper's code restricts them to the data's range; its
    text and this do not. With a context each has a learned pseudo-context, and the prior is the same for all contexts.
    The rate is sampled. Use it for a better likelihood and better samples at a small cost, and against inactive
    latents, since the prior follows the posteriors.

    See also: `vade`, whose components are free Gaussians that represent clusters.

    References: Tomczak & Welling (2018), https://arxiv.org/abs/1705.07120
    """
    return base.replace(prior=VampPrior(architecture.shape, architecture.context, pseudo_inputs))
