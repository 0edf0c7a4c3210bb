"""The VAE with a variational mixture of posteriors as its prior."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.priors.vamp import VampPrior
from vaezoo.registry import Architecture, register


@register(
    "vamp-vae",
    changes="prior",
    year=2018,
    paper="Tomczak & Welling",
    url="https://arxiv.org/abs/1705.07120",
    rate="sampled",
)
def vamp_vae(
    base: VAE, architecture: Architecture, *, pseudo_inputs: Annotated[int, Meta(ge=1, le=1_000_000)] = 500
) -> VAE:
    r"""Minimises $D + R$ with a mixture of posteriors as prior.

    $$p(z) = \frac1M \sum_{m=1}^M q(z|u_m)$$

    Hyperparameters:
        pseudo_inputs: $M \ge 1$, how many $u_m$; 500 in the paper. Each step takes them all through the encoder.

    The $u_m$ are learnt, starting from training images. The paper's code keeps them within the data's range; its text
    does not, nor does this. With a context each has a learnt pseudo-context, and the prior is the same for all. The
    rate is sampled. When to use it: for a better likelihood and better samples at a small cost, and against latents
    that stay unused: the prior moves to where posteriors are. It is confused with `vade`, whose components are free
    Gaussians that mean clusters.
    """
    return base.replace(prior=VampPrior(architecture.shape, architecture.context, pseudo_inputs))
