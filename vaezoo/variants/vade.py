"""Variational deep embedding: a VAE that clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn

from vaezoo.distributions import LOG_SCALE_LIMIT, DiagonalNormal, full_precision
from vaezoo.elbo import Model, Part, draw
from vaezoo.mixtures import Mixture
from vaezoo.model import VAE
from vaezoo.networks import started
from vaezoo.registry import Architecture, register

STARTS = 10  # of the mixture's fit, of which the likeliest is taken
ENOUGH = 10  # examples of each cluster for each latent, from which on covariances can be told


class GaussianMixturePrior(Part):
    """A learnt mixture of diagonal Gaussians, whatever the context.

    Args:
        latent: the event shape of z.
        clusters: how many components.
    """

    first_images = 10_000

    def __init__(self, latent: Sequence[int], clusters: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(clusters))
        self.loc = nn.Parameter(started(clusters, *latent, scale=0.1))
        self.log_scale = nn.Parameter(torch.zeros(clusters, *latent))

    def forward(self, c: Tensor | None = None) -> Mixture:
        """Returns the mixture, with no batch dimension."""
        loc, log_scale = full_precision(self.loc), full_precision(self.log_scale)
        components = DiagonalNormal(loc, log_scale.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT), loc.dim() - 1)
        return Mixture(components, full_precision(self.logits).log_softmax(0))

    def responsibilities(self, z: Tensor) -> Tensor:
        """Returns p(y|z) of latents `z` (..., *latent), (..., clusters); argmax over the last gives clusters."""
        return self.forward().responsibilities(z)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Fits a mixture to draws of the posteriors, by k-means and then expectation-maximization.

        Clusters lie askew to the axes: where examples are many enough they are found with full covariances, of which
        the variances are kept.
        """
        from sklearn.mixture import GaussianMixture  # takes a second to import

        with torch.no_grad():
            count, examples = len(self.logits), sum(len(x) for x, _ in batches)
            copies = -(-2 * count // examples)  # several draws of each, where examples are fewer than clusters
            draws = [draw(model.encoder(x, c), copies)[0].flatten(0, 1).flatten(1) for x, c in batches]
            rows = torch.cat(draws).double().cpu()
            if not bool(rows.isfinite().all()):
                return  # the first step will say what is not
            rows += 1e-4 * torch.randn_like(rows)  # no two alike, though posteriors be points
            kind = "full" if ENOUGH * count * rows.shape[1] <= len(rows) else "diag"
            least = max(1e-6, 1e-9 * float(rows.var(0).max()))
            seed = int(torch.randint(2**31, ()))
            mixture = GaussianMixture(count, covariance_type=kind, n_init=STARTS, random_state=seed, reg_covar=least)
            found = mixture.fit(rows.numpy())
            covariances = torch.from_numpy(found.covariances_)
            variances = covariances.diagonal(dim1=-2, dim2=-1) if kind == "full" else covariances
            self.logits.copy_(torch.from_numpy(found.weights_).log())
            self.loc.copy_(torch.from_numpy(found.means_).view(self.loc.shape))
            self.log_scale.copy_(0.5 * variances.log().view(self.loc.shape))


@register(
    "vade",
    changes="prior",
    year=2017,
    paper="Jiang et al.",
    url="https://arxiv.org/abs/1611.05148",
    rate="sampled",
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
