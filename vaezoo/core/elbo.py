r"""What every variant reports per example, in nats: distortion, rate and bound.

$$\log p(x) \ge \mathbb{E}_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x)\,\|\,p(z)) = -(D + R)$$

*Distortion* $D$ is the decoder's loss, *rate* $R$ is the information of the posterior beyond the prior (Alemi et al.,
2018, "Fixing a Broken ELBO", https://arxiv.org/abs/1711.00464). Both are summed over event dimensions and not averaged
over the batch; only the trainer averages. An objective may minimize something else; it always reports these two and an
unweighted bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import cast

from torch import Tensor
from torch.distributions import Distribution, Independent, kl

from vaezoo.core.posterior import is_deterministic


def closed_form_rate(posterior: Distribution, prior: Distribution) -> Tensor | None:
    """Returns KL(posterior || prior), or None without a closed form for the pair or for components of it."""
    p, q = posterior, prior
    while isinstance(p, Independent) and isinstance(q, Independent):
        p, q = p.base_dist, q.base_dist
    # Not `kl_divergence`: torch.compile cannot trace its search, and it conceals errors inside a registered function.
    pairs = product(type(p).__mro__, type(q).__mro__)
    function = next((kl._KL_REGISTRY[pair] for pair in pairs if pair in kl._KL_REGISTRY), None)
    if function is None:
        return None
    try:
        exact = cast(Tensor, function(p, q))
    except NotImplementedError:
        if function.__module__ != kl.__name__:
            raise
        return None  # torch's own function, which is not for all pairs of its types
    added = len(posterior.event_shape) - len(p.event_shape)
    return exact.flatten(-added).sum(-1) if added else exact


@dataclass(frozen=True, kw_only=True, slots=True)
class Inference:
    """One stochastic pass through a model: K samples for each of B examples.

    `x` (B, *shape); `z` (K, B, *latent); `log_q` (K, B), the log density of these very z; the three distributions; the
    context `c` (B, context) that they are given, None without one; `weights` (K, B), the share of each draw in the
    loss, with sum 1 over the draws, None for equal shares.
    """

    x: Tensor
    z: Tensor
    log_q: Tensor
    posterior: Distribution
    prior: Distribution
    likelihood: Distribution
    c: Tensor | None = None
    weights: Tensor | None = None

    def log_likelihood(self) -> Tensor:
        """Returns log p(x|z), (K, B), nats; the most expensive term for many samples; compute it once."""
        return self.likelihood.log_prob(self.x)

    def distortion(self, log_likelihood: Tensor | None = None) -> Tensor:
        r"""Returns $-\mathbb{E}_q \log p(x|z)$, (B,), nats; `log_likelihood`: (K, B) if it is already computed."""
        known = self.log_likelihood() if log_likelihood is None else log_likelihood
        return -(known.squeeze(0) if len(known) == 1 else known.mean(0))

    def rate(self) -> Tensor:
        r"""Returns $\mathrm{KL}(q\|p)$, (B,), nats: closed form where registered, else the mean over the K samples."""
        exact = closed_form_rate(self.posterior, self.prior)
        if exact is None:
            return (self.log_q - self.prior.log_prob(self.z)).mean(0)
        return exact.expand(self.log_q.shape[1:])

    def log_weights(self, log_likelihood: Tensor | None = None) -> Tensor:
        r"""Returns $\log p(x|z) + \log p(z) - \log q(z|x)$, (K, B), nats; `log_likelihood` as in `distortion`."""
        known = self.log_likelihood() if log_likelihood is None else log_likelihood
        if is_deterministic(self.posterior):
            return known - self.rate()  # for a single outcome, log p(z) - log q(z|x) is minus the divergence
        return known + self.prior.log_prob(self.z) - self.log_q


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class ELBO:
    """The report of an objective, per example, in nats.

    Attributes:
        distortion, rate: (B,).
        bound: (B,), a lower bound on log p(x) without weights; -inf where there is no density.
        losses: the loss of each player, (B,) each.
        terms: the objective's own named terms, (B,) each.
        statistics: detached statistics for parts that learn without gradients (EMA codebooks, running scales), keyed
            `part.name`.
    """

    distortion: Tensor
    rate: Tensor
    bound: Tensor
    losses: Mapping[str, Tensor]
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    statistics: Mapping[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Returns the means over the examples."""
        lines = [f"ELBO of {len(self.bound)} examples, means in nats:"]
        main = {"bound": self.bound, "distortion": self.distortion, "rate": self.rate}
        for name, values in (("", main), ("losses: ", self.losses), ("terms: ", self.terms)):
            if values:
                means = (f"{key} {value.detach().float().mean():,.4f}" for key, value in values.items())
                lines.append(f"  {name}{', '.join(means)}")
        return "\n".join(lines)
