"""The importance-weighted autoencoder."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives import Gradient, ImportanceObjective
from vaezoo.registry import Architecture, register


@register("iwae", changes="objective", year=2016, paper="Burda et al.", url="https://arxiv.org/abs/1509.00519")
def iwae(
    base: VAE,
    architecture: Architecture,
    *,
    samples: Annotated[int, Meta(ge=1, le=100_000)] = 50,
    gradient: Gradient = "plain",
) -> VAE:
    r"""Maximises the importance-weighted bound over K samples.

    $$\mathcal{L}_K = \mathbb{E}\Big[\log \frac1K \sum_{k=1}^K \frac{p(x|z_k)\,p(z_k)}{q(z_k|x)}\Big] \le \log p(x)$$

    Hyperparameters:
        samples: $K \ge 1$; 1 is the VAE with a sampled rate. Cost grows with K.
        gradient: of the encoder, all of the same bound. "plain" is the paper's, whose signal vanishes in its noise as K
            grows. "doubly-reparametrized" (Tucker et al., 2018, https://arxiv.org/abs/1810.04152) has the same mean and
            less noise. "sticking-the-landing" (Roeder et al., 2017, https://arxiv.org/abs/1703.09194) leaves out the
            posterior's score; for K > 1 it is biased. The last two need a diagonal Gaussian posterior.

    The reported rate is in closed form; the bound samples it. When to use it: for the best likelihood a given network
    can give. A fine-tune of a trained VAE with K = 50 gives nearly all of it. It is confused with drawing K samples in
    the plain ELBO, which lowers the noise but not the gap.
    """
    return base.replace(objective=ImportanceObjective(samples, gradient))
