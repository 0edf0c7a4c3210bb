"""`Posterior`, the base class of distributions over latents, and what is read of any distribution over latents."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

ACTIVE_VARIANCE = 0.01  # of a latent's posterior center over a data set: above it the latent is active


class Posterior(Distribution):
    """A distribution over latents with the facts that objectives, evaluation and the trainer read of it.

    Each fact has a default, which also holds for distributions that are no `Posterior`. Read them through the functions
    of this module, which accept any `torch.distributions.Distribution`.
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)
    #: False for a point mass in a continuous space, which has neither a density nor probabilities
    has_density = True
    #: False where `log_prob` is limited to the distribution's own draws, as that of a flow without an inverse
    knows_density = True
    #: True where all draws are equal, so that one of them is enough
    deterministic = False

    @property
    def indices(self) -> Tensor | None:
        """The codes of a quantized latent, (B, ...) int64; None for other latents."""
        return None

    @property
    def center(self) -> Tensor:
        """The point that `VAE.reconstruct` decodes, (*batch, *event): the mean, or the mode where there is no mean."""
        return _mean_or_mode(self)

    def responsibilities(self, value: Tensor) -> Tensor | None:
        """Returns p(component | value) of a mixture, (*sample, M), for `value` (*sample, *event); None for others."""
        return None

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, *batch, *event) and its log density (*sample, *batch), nats."""
        raise NotImplementedError


def has_density(posterior: Distribution) -> bool:
    """Returns whether a posterior has a density, or probabilities; a point mass in a continuous space has neither."""
    return posterior.has_density if isinstance(posterior, Posterior) else Posterior.has_density


def is_deterministic(posterior: Distribution) -> bool:
    """Returns whether all draws of a posterior are equal."""
    return posterior.deterministic if isinstance(posterior, Posterior) else Posterior.deterministic


def code_indices(posterior: Distribution) -> Tensor | None:
    """Returns the codes of a quantized latent, (B, ...) int64; None for other latents."""
    return posterior.indices if isinstance(posterior, Posterior) else None


def center(posterior: Distribution) -> Tensor:
    """Returns the point of a posterior that `VAE.reconstruct` decodes, (B, *latent)."""
    return posterior.center if isinstance(posterior, Posterior) else _mean_or_mode(posterior)


def exact_mean(posterior: Distribution) -> Tensor | None:
    """Returns the mean of a posterior, (B, *latent); None if it has no closed form."""
    try:
        return posterior.mean
    except NotImplementedError:
        return None


def mean_or_center(posterior: Distribution) -> Tensor:
    """Returns the mean of a posterior if it has a closed form, otherwise its center, (B, *latent)."""
    mean = exact_mean(posterior)
    return center(posterior) if mean is None else mean


def responsibilities(prior: Distribution, z: Tensor) -> Tensor | None:
    """Returns p(component | z) of a mixture, (B, M), for z (B, *latent); None for a prior that is no mixture."""
    return prior.responsibilities(z) if isinstance(prior, Posterior) else None


def sample_with_log_prob(posterior: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    """Returns z (K, B, *latent) and log q(z|x) (K, B)."""
    if isinstance(posterior, Posterior):
        return posterior.rsample_and_log_prob((samples,))
    shape = torch.Size((samples,))
    z = posterior.rsample(shape) if posterior.has_rsample else posterior.sample(shape)
    return z, posterior.log_prob(z)


def _mean_or_mode(distribution: Distribution) -> Tensor:
    mean = exact_mean(distribution)
    return distribution.mode if mean is None else mean
