"""Variational deep embedding: a VAE that clusters."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.priors.mixture import GaussianMixturePrior
from vaezoo.registry import Architecture, register


@register(
    "vade", changes="prior", year=2017, paper="Jiang et al.", url="https://arxiv.org/abs/1611.05148", rate="sampled"
)
def vade(base: VAE, architecture: Architecture, *, clusters: Annotated[int, Meta(ge=1, le=100_000)] = 10) -> VAE:
    r"""Minimises $D + R$ with a mixture of Gaussians as prior, whose components are clusters.

    $$p(z) = \sum_y \pi_y\, \mathcal{N}(z; \mu_y, \sigma_y^2), \qquad q(y|x) = \mathbb{E}_{q(z|x)}[p(y|z)]$$

    Hyperparameters:
        clusters: how many components.

    `model.prior.responsibilities(z)` gives p(y|z). The paper trains encoder and decoder alone first (a stage with
    `train = ["encoder", "decoder"]`, or a recipe's `init`); before the first stage that trains the prior, the mixture
    is fitted to draws of the posteriors, whose density it is to be. Without such a start clusters are poor. The rate is
    sampled, with y summed out exactly; the paper samples q(y|x) and then adds KL divergences in closed form, which is
    no less in the mean. When to use it: to find clusters, and to draw from one. It is confused with `vamp-vae`, whose
    components are posteriors.
    """
    return base.replace(prior=GaussianMixturePrior(architecture.latent, clusters))
