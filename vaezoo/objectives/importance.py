r"""Importance-weighted bounds: K draws per example with weights $w_k = p(x|z_k)\,p(z_k)/q(z_k|x)$.

$$\log p(x) \ge \mathbb{E}\Big[\log \frac1K \sum_{k=1}^K w_k\Big]$$

Two gradient estimators remove the score function of the posterior, $\partial_\phi \log q_\phi(z|x)$ at a fixed z, whose
noise dominates the encoder's gradient as K grows. They do not change the bound.
"""

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from vaezoo.core import ELBO, Inference, Model, Objective, sample_with_log_prob
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import CompositionError
from vaezoo.objectives.players import players_of

GradientEstimator = Literal["plain", "sticking-the-landing", "doubly-reparametrized"]


class ImportanceObjective(Objective):
    r"""The objective $-\log \frac1K \sum_k w_k$ (Burda et al., 2016, https://arxiv.org/abs/1509.00519).

    Args:
        samples: $K$, draws of z per example.
        gradient: "plain"; "sticking-the-landing" omits the score function (Roeder et al., 2017,
            https://arxiv.org/abs/1703.09194), which has mean 0 only for K = 1; "doubly-reparametrized" replaces it by a
            derivative with respect to z, without bias (Tucker et al., 2018, https://arxiv.org/abs/1810.04152).
    """

    def __init__(self, samples: int, gradient: GradientEstimator = "plain") -> None:
        super().__init__()
        self.samples, self.gradient = samples, gradient
        self.posterior_type = None if gradient == "plain" else DiagonalNormal

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO, with the importance-weighted bound, which is tighter than -(D + R)."""
        factors: list[Tensor] = []
        inference = model.infer(x, c, self.samples) if self.gradient == "plain" else self._infer(model, x, c, factors)
        log_likelihood = inference.log_likelihood()
        log_weights = inference.log_weights(log_likelihood)
        if self.gradient == "doubly-reparametrized":
            factors.append(log_weights.detach().softmax(0))
        return ELBO(
            distortion=inference.distortion(log_likelihood),
            rate=inference.rate(),
            bound=self.if_density(inference, self.estimate(log_weights)),
            losses=self.losses_of(log_weights),
            statistics=model.observe(replace(inference, weights=self.shares(log_weights.detach()))),
        )

    def estimate(self, log_weights: Tensor) -> Tensor:
        """Returns the reported bound, (B,), from log weights (K, B)."""
        return log_mean_exp(log_weights)

    def shares(self, log_weights: Tensor) -> Tensor:
        """Returns the share of each draw in the decoder's gradient, (K, B): minus the derivative of the loss by it."""
        return log_weights.softmax(0)

    def losses_of(self, log_weights: Tensor) -> dict[str, Tensor]:
        """Returns player -> its loss, (B,)."""
        return {"model": -self.estimate(log_weights)}

    def _infer(self, model: Model, x: Tensor, c: Tensor | None, factors: list[Tensor]) -> Inference:
        r"""Returns the inference, with a log q(z|x) whose parameters are detached.

        The gradient with respect to z_k is then $\bar w_k\,\partial_z \log w_k$ with $\bar w_k = w_k / \sum_j w_j$;
        multiplied by another $\bar w_k$, which `factors` holds by the time of the backward pass, it is the doubly
        reparametrized one.
        """
        posterior = model.encoder(x, c)
        if not isinstance(posterior, DiagonalNormal):
            raise CompositionError(
                f"Got a posterior of type {type(posterior).__name__}, whose parameters cannot be detached; expected a "
                'diagonal Gaussian. Choose gradient = "plain".'
            )
        z, _ = sample_with_log_prob(posterior, self.samples)
        if self.gradient == "doubly-reparametrized" and z.requires_grad:
            z.register_hook(lambda grad: grad * factors[0].view(*grad.shape[:2], *[1] * (grad.dim() - 2)))
        detached = DiagonalNormal(posterior.loc.detach(), posterior.log_scale.detach(), posterior.event_dims)
        return Inference(
            x=x,
            z=z,
            log_q=detached.log_prob(z),
            posterior=posterior,
            prior=model.prior(c),
            likelihood=model.decoder(z, c),
            c=c,
        )


def log_mean_exp(values: Tensor) -> Tensor:
    """Returns log((1/K) Σ_k exp(values_k)) over the first dimension."""
    return values.logsumexp(0) - math.log(values.shape[0])


class CombinedObjective(ImportanceObjective):
    r"""The objective of CIWAE: $-\beta\,\mathrm{ELBO} - (1 - \beta)$ times the importance-weighted bound.

    Rainforth et al., 2018, https://arxiv.org/abs/1802.04537.
    """

    def __init__(self, samples: int, beta: float) -> None:
        super().__init__(samples)
        self.beta = beta

    def shares(self, log_weights: Tensor) -> Tensor:
        """Returns the shares of the draws, (K, B): the mixture of equal shares and those of the tight bound."""
        return super().shares(log_weights).lerp(torch.full_like(log_weights, 1.0 / len(log_weights)), self.beta)

    def losses_of(self, log_weights: Tensor) -> dict[str, Tensor]:
        """Returns the loss, (B,), both of whose bounds use the same draws."""
        tight = self.estimate(log_weights)
        return {"model": -tight.lerp(log_weights.mean(0), self.beta)}


class GroupedObjective(ImportanceObjective):
    """The objective of MIWAE: the negative mean of the importance-weighted bounds of M groups of K draws."""

    def __init__(self, samples: int, groups: int) -> None:
        super().__init__(samples * groups)
        self.groups = groups

    def estimate(self, log_weights: Tensor) -> Tensor:
        """Returns the mean of the bounds of the groups, (B,), from log weights (K·M, B)."""
        return log_mean_exp(log_weights.unflatten(0, (-1, self.groups))).mean(0)

    def shares(self, log_weights: Tensor) -> Tensor:
        """Returns the shares of the draws, (K·M, B): those in each group, divided by M."""
        grouped: Tensor = log_weights.unflatten(0, (-1, self.groups))
        return grouped.softmax(0).flatten(0, 1) / self.groups


class PartialObjective(GroupedObjective):
    """The objective of PIWAE: that of MIWAE for the encoder, the negative bound of all M·K draws for the rest."""

    def players(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """Returns the encoder's parameters and all others."""
        return players_of(model, {"encoder": model.encoder}, rest="model")

    def estimate(self, log_weights: Tensor) -> Tensor:
        """Returns the bound of all draws, (B,)."""
        return log_mean_exp(log_weights)

    def shares(self, log_weights: Tensor) -> Tensor:
        """Returns the shares of the draws in the loss of the decoder, (K·M, B)."""
        return log_weights.softmax(0)

    def losses_of(self, log_weights: Tensor) -> dict[str, Tensor]:
        """Returns the loss of each player, (B,)."""
        return {"model": -self.estimate(log_weights), "encoder": -super().estimate(log_weights)}
