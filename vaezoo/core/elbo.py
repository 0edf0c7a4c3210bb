r"""The one language that every variant speaks: distortion, rate and bound, per example, in nats.

$$\log p(x) \ge \mathbb{E}_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x)\,\|\,p(z)) = -(D + R)$$

*Distortion* $D$ is what the decoder loses, *rate* $R$ is what the posterior tells beyond the prior (Alemi et al., 2018,
"Fixing a Broken ELBO", https://arxiv.org/abs/1711.00464). Both are summed over event dimensions and never averaged over
the batch; only the trainer averages. An objective may minimise something else, but it always reports these two and a
bound that no weight has touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution, kl_divergence

__all__ = ["ELBO", "Inference", "center", "has_closed_form_rate", "sample_with_log_prob"]


@runtime_checkable
class JointlySampled(Protocol):
    """A posterior that draws z together with the log density of these very z."""

    def rsample_and_log_prob(self, sample_shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Returns z (*sample_shape, B, *latent) and log q(z|x) (*sample_shape, B)."""


def has_density(posterior: Distribution) -> bool:
    """Says whether a posterior has a density, or probabilities; a point mass in a continuous space has neither."""
    return bool(getattr(posterior, "has_density", True))


def sample_with_log_prob(posterior: Distribution, samples: int) -> tuple[Tensor, Tensor]:
    """Returns z (K, B, *latent) and log q(z|x) (K, B), drawn together where the posterior can."""
    if isinstance(posterior, JointlySampled):
        return posterior.rsample_and_log_prob((samples,))
    z = posterior.rsample((samples,)) if posterior.has_rsample else posterior.sample((samples,))
    return z, posterior.log_prob(z)


@singledispatch
def center(posterior: Distribution) -> Tensor:
    """Returns the centre of a posterior, (B, *latent): what `reconstruct` decodes.

    The distribution's own `center` where it has one, else its mean, else its mode.
    """
    own = getattr(posterior, "center", None)
    if isinstance(own, Tensor):
        return own
    try:
        return posterior.mean
    except NotImplementedError:
        return posterior.mode


def has_closed_form_rate(posterior: Distribution, prior: Distribution) -> bool:
    """Says whether KL(posterior || prior) is registered in closed form; otherwise the rate is sampled."""
    try:
        kl_divergence(posterior, prior)
    except NotImplementedError:
        return False
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Inference:
    """One stochastic pass through a model: K samples for each of B examples.

    `x` (B, *shape); `z` (K, B, *latent); `log_q` (K, B), the log density of these very z; the three distributions.
    """

    x: Tensor
    z: Tensor
    log_q: Tensor
    posterior: Distribution
    prior: Distribution
    likelihood: Distribution

    def log_likelihood(self) -> Tensor:
        """Returns log p(x|z), (K, B), nats; the dearest term with many samples: take it once."""
        return self.likelihood.log_prob(self.x)

    def distortion(self, log_likelihood: Tensor | None = None) -> Tensor:
        r"""Returns $-\mathbb{E}_q \log p(x|z)$, (B,), nats; `log_likelihood` (K, B) where it is known already."""
        return -(self.log_likelihood() if log_likelihood is None else log_likelihood).mean(0)

    def rate(self) -> Tensor:
        r"""Returns $\mathrm{KL}(q\|p)$, (B,), nats: closed form where registered, else the mean over the K samples."""
        try:
            return kl_divergence(self.posterior, self.prior).expand(self.log_q.shape[1:])
        except NotImplementedError:
            return (self.log_q - self.prior.log_prob(self.z)).mean(0)

    def log_weights(self, log_likelihood: Tensor | None = None) -> Tensor:
        r"""Returns $\log p(x|z) + \log p(z) - \log q(z|x)$, (K, B), nats; `log_likelihood` as in `distortion`."""
        known = self.log_likelihood() if log_likelihood is None else log_likelihood
        if getattr(self.posterior, "deterministic", False):
            return known - self.rate()  # of the only outcome, log p(z) - log q(z|x) is minus the divergence
        return known + self.prior.log_prob(self.z) - self.log_q


@dataclass(frozen=True, kw_only=True, slots=True)
class ELBO:
    """What every variant reports, per example, in nats.

    `distortion`, `rate`, `bound`: (B,); the bound is a lower bound on log p(x) that no weight has touched, -inf where
    there is no density. `losses`: what each player minimises, (B,) each. `terms`: the variant's own named terms, (B,)
    each. `seen`: what parts that learn without a gradient (an EMA codebook, a running scale) need of this pass,
    detached, keyed `part.name`.
    """

    distortion: Tensor
    rate: Tensor
    bound: Tensor
    losses: Mapping[str, Tensor]
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    statistics: Mapping[str, Tensor] = field(default_factory=dict)
