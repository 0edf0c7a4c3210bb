"""Priors that are mixtures: of learned Gaussians, and of the posteriors of learned pseudo-inputs (VampPrior)."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model, Part, as_part, full_precision, has_density, require, sample_with_log_prob
from vaezoo.distributions import LOG_SCALE_LIMIT, DiagonalNormal, Mixture
from vaezoo.errors import CompositionError
from vaezoo.networks import check_weights, fill_gaps, normal_init

INITIALIZATIONS = 10  # of the fit, of which the most likely is chosen
EXAMPLES_PER_LATENT = 10  # in each cluster, for full covariances


class GaussianMixturePrior(Part):
    """A learned mixture of diagonal Gaussians, for every context.

    Args:
        latent: the event shape of z.
        clusters: number of components.
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
        """Returns p(y|z) of latents `z` (..., *latent), (..., clusters)."""
        return self.forward().responsibilities(z)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Fits the mixture to draws of the posteriors, by k-means and then expectation-maximization.

        Clusters are seldom aligned with the axes: if there are enough examples, the fit has full covariances, of which
        the variances are kept.
        """
        sklearn = require("sklearn.mixture", "scikit-learn", "Fitting a Gaussian mixture")
        with torch.no_grad():
            count, examples = len(self.logits), sum(len(x) for x, _ in batches)
            copies = -(-2 * count // examples)  # several draws of each if there are fewer examples than clusters
            draws = [sample_with_log_prob(model.encoder(x, c), copies)[0].flatten(0, 1).flatten(1) for x, c in batches]
            rows = torch.cat(draws).double().cpu()
            if not bool(rows.isfinite().all()):
                return  # the first step raises an error for the loss
            rows += 1e-4 * torch.randn_like(rows)  # so that no two are equal, even of point posteriors
            kind = "full" if EXAMPLES_PER_LATENT * count * rows.shape[1] <= len(rows) else "diag"
            least = max(1e-6, 1e-9 * float(rows.var(0).max()))
            seed = int(torch.randint(2**31, ()))
            mixture = sklearn.GaussianMixture(
                count, covariance_type=kind, n_init=INITIALIZATIONS, random_state=seed, reg_covar=least
            )
            found = mixture.fit(rows.numpy())
            covariances = torch.from_numpy(found.covariances_)
            variances = covariances.diagonal(dim1=-2, dim2=-1) if kind == "full" else covariances
            self.logits.copy_(torch.from_numpy(found.weights_).log())
            self.loc.copy_(torch.from_numpy(found.means_).view(self.loc.shape))
            self.log_scale.copy_(0.5 * variances.log().view(self.loc.shape))


class VampPrior(Part):
    """A mixture of the posteriors of M learned pseudo-inputs (Tomczak & Welling, 2018, https://arxiv.org/abs/1705.07120).

    Args:
        shape: the event shape of x.
        context: width of the context; each pseudo-input has a learned context.
        count: M.
    """

    def __init__(self, shape: Sequence[int], context: int, count: int) -> None:
        super().__init__()
        check_weights("set of pseudo-inputs", [count * (math.prod(shape) + context)])
        self.inputs = nn.Parameter(torch.rand(count, *shape))
        self.contexts = nn.Parameter(torch.rand(count, context)) if context else None
        self._encoder: tuple[nn.Module, ...] = ()  # in a tuple, so that it is not registered

    def bind(self, model: Model) -> None:
        """Stores a reference to the encoder; raises CompositionError if its density is not known everywhere."""
        if not as_part(model.encoder).knows_density:
            raise _density_error(model.encoder)
        self._encoder = (model.encoder,)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the mixture, which is the same for every context."""
        posteriors = cast(Distribution, self._encoder[0](self.inputs, self.contexts))
        if not has_density(posteriors):
            raise _density_error(self._encoder[0])
        return Mixture(posteriors)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Sets the pseudo-inputs and their contexts to random examples."""
        x = torch.cat([each for each, _ in batches])
        chosen = torch.randperm(len(x), device=x.device)[torch.arange(len(self.inputs), device=x.device) % len(x)]
        with torch.no_grad():
            self.inputs.copy_(fill_gaps(x)[chosen])
            if self.contexts is not None:
                self.contexts.copy_(torch.cat([c for _, c in batches if c is not None])[chosen])


def _density_error(encoder: nn.Module) -> CompositionError:
    """Returns the error for an encoder whose posteriors cannot be components."""
    return CompositionError(
        f"Got the posterior of {type(encoder).__name__}, which has no density or only that of its own draws; vamp-vae "
        "needs a density at every z. Compose with another encoder, or use flow-prior-vae."
    )
