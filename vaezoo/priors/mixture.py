"""A prior that is a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vaezoo.core import Model, Part, sample_with_log_prob
from vaezoo.core.precision import full_precision
from vaezoo.distributions import Mixture
from vaezoo.distributions.joint_sampling import LOG_SCALE_LIMIT
from vaezoo.distributions.normal import DiagonalNormal
from vaezoo.networks.initialization import normal_init

STARTS = 10  # of the mixture's fit, of which the likeliest is taken
ENOUGH = 10  # examples of each cluster for each latent, from which on covariances can be told


class GaussianMixturePrior(Part):
    """A learnt mixture of diagonal Gaussians, whatever the context.

    Args:
        latent: the event shape of z.
        clusters: how many components.
    """

    initialization_examples = 10_000
    has_clusters = True

    def __init__(self, latent: Sequence[int], clusters: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(clusters))
        self.loc = nn.Parameter(normal_init(clusters, *latent, scale=0.1))
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
            draws = [sample_with_log_prob(model.encoder(x, c), copies)[0].flatten(0, 1).flatten(1) for x, c in batches]
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
