r"""The one language that every variant speaks: distortion, rate and bound, per example, in nats.

$$\log p(x) \ge \mathbb{E}_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x)\,\|\,p(z)) = -(D + R)$$

*Distortion* $D$ is what the decoder loses, *rate* $R$ is what the posterior tells beyond the prior (Alemi et al., 2018,
"Fixing a Broken ELBO", https://arxiv.org/abs/1711.00464). Both are summed over event dimensions and never averaged over
the batch; only the trainer averages. An objective may minimise something else, but it always reports these two and a
bound that no weight has touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from vaezoo.core.posterior import is_deterministic

__all__ = ["ELBO", "Inference", "has_closed_form_rate"]


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
        if is_deterministic(self.posterior):
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
