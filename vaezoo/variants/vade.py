"""Variational deep embedding: a VAE that clusters."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.priors import GaussianMixturePrior
from vaezoo.registry import Architecture, register


@register("vade", changes="prior", rate="sampled", example={"clusters": 3})
def vade(base: VAE, architecture: Architecture, *, clusters: Annotated[int, Meta(ge=1, le=100_000)] = 10) -> VAE:
    r"""Minimizes D + R with a mixture of Gaussians as prior, whose components are clusters.

    $$p(z) = \sum_y \pi_y\, \mathcal{N}(z; \mu_y, \sigma_y^2), \qquad q(y|x) = \mathbb{E}_{q(z|x)}[p(y|z)]$$

    Hyperparameters:
        clusters: number of components.

    `model.prior.responsibilities(z)` returns p(y|z). The paper trains encoder and decoder first (a stage with `train =
    ["encoder", "decoder"]`, or a recipe's `init`); before the first stage that trains the prior, the mixture is fitted
    to draws of the posteriors. Without such an initialization clusters are poor. The rate is sampled, with y summed out
    exactly; the paper samples q(y|x) and adds KL divergences in closed form, which is no less in expectation. Use it to
    find clusters, and to sample from one.

    See also: `vamp-vae`, whose components are posteriors.

    References: Jiang et al. (2017), https://arxiv.org/abs/1611.05148
    """
    return base.replace(prior=GaussianMixturePrior(architecture.latent, clusters))
