r"""Penalties of the aggregate posterior $q(z) = \frac1N \sum_n q(z|x_n)$, estimated from a batch."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import Inference, Model
from vaezoo.distributions import LOG_TWO_PI, DiagonalNormal
from vaezoo.errors import CompositionError
from vaezoo.objectives.weighted import Penalty


@dataclass(frozen=True)
class AggregatePenalty:
    """The mean over the draws of one term of log q(z|x) - log p(z), (B,), nats.

    Args:
        term: "mutual_information", log q(z|x) - log q(z); "total_correlation", log q(z) - Σ_j log q(z_j); or
            "dimension_wise_kl", Σ_j log q(z_j) - log p(z).
        examples: N, the size of the training set.
    """

    term: Literal["mutual_information", "total_correlation", "dimension_wise_kl"]
    examples: int

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the penalty, (B,)."""
        joint, marginals = log_aggregate_density(inference, self.examples)
        if self.term == "mutual_information":
            return (inference.log_q - joint).mean(0)
        if self.term == "total_correlation":
            return (joint - marginals.sum(-1)).mean(0)
        return (marginals.sum(-1) - inference.prior.log_prob(inference.z)).mean(0)


def log_aggregate_density(inference: Inference, examples: int) -> tuple[Tensor, Tensor]:
    r"""Returns estimates of $\log q(z)$, (K, B), and of each $\log q(z_j)$, (K, B, n), nats.

    The minibatch-stratified estimator (Chen et al., 2018, https://arxiv.org/abs/1802.04942, appendix C.2): z was drawn
    from the posterior of its own example, which has weight 1/N; the B - 1 others represent the rest of the training
    set and have weight (N - 1)/(N (B - 1)) each. In the paper, the weight of one of the others differs, depending on
    their order. This is the mean over all orders: also unbiased, less noisy, and exact if the batch is the whole set.

    Args:
        inference: an inference whose posterior is a diagonal Gaussian.
        examples: N, the size of the training set.
    """
    loc, log_scale = diagonal_parameters(inference.posterior)
    z = inference.z.flatten(2).unsqueeze(2)  # (K, B, 1, n), against the posteriors (B, n) of all examples
    log_density = -0.5 * (((z - loc) * (-log_scale).exp()).square() + LOG_TWO_PI) - log_scale
    weights = log_stratified_weights(len(loc), examples, loc)
    joint = (log_density.sum(-1) + weights).logsumexp(2)
    return joint, (log_density + weights.unsqueeze(-1)).logsumexp(2)


def log_stratified_weights(batch: int, examples: int, like: Tensor) -> Tensor:
    """Returns log weights (B, B): in each row those of one draw, with its own example on the diagonal."""
    own = torch.eye(batch, dtype=torch.bool, device=like.device)
    if batch == 1 or examples == 1:
        return like.new_zeros(batch, batch).masked_fill_(~own, -torch.inf)
    others = math.log(examples - 1) - math.log(examples) - math.log(batch - 1)
    return like.new_full((batch, batch), others).masked_fill_(own, -math.log(examples))


@dataclass(frozen=True)
class CovariancePenalty:
    """The penalty of `covariance` C, 0-dim: Σ_i (C_ii - 1)² if `diagonal`, else Σ_{i≠j} C_ij²."""

    draws: bool
    diagonal: bool

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the penalty, 0-dim."""
        entries = covariance(inference, draws=self.draws)
        variances = entries.diagonal()
        return (variances - 1.0).square().sum() if self.diagonal else (entries - variances.diag()).square().sum()


def covariance_penalties(off_diagonal: float, diagonal: float, *, draws: bool) -> dict[str, tuple[float, Penalty]]:
    """Returns the penalties, with their weights, of the difference of `covariance` from the identity.

    Kumar et al., 2018, https://arxiv.org/abs/1711.00848.
    """
    return {
        "off_diagonal": (off_diagonal, CovariancePenalty(draws, diagonal=False)),
        "diagonal": (diagonal, CovariancePenalty(draws, diagonal=True)),
    }


def covariance(inference: Inference, *, draws: bool) -> Tensor:
    """Returns the covariance (n, n) of the posterior means, or with `draws` that of z: plus the mean of the variances.

    With factor 1/B: exact if the batch is the whole set.
    """
    loc, log_scale = diagonal_parameters(inference.posterior)
    centered = loc - loc.mean(0)
    with torch.autocast(loc.device.type, enabled=False):  # matrix products would be in half precision
        of_means = centered.T @ centered / len(loc)
    return of_means + (2.0 * log_scale).exp().mean(0).diag() if draws else of_means


def diagonal_parameters(posterior: Distribution) -> tuple[Tensor, Tensor]:
    """Returns means and log standard deviations (B, n) of a diagonal Gaussian.

    Raises:
        CompositionError: the posterior is of another type.
    """
    if not isinstance(posterior, DiagonalNormal):
        raise CompositionError(
            f"Got a posterior of type {type(posterior).__name__}; the aggregate posterior is estimated from diagonal "
            "Gaussians (DiagonalNormal). Leave out the variant that changes the encoder."
        )
    return posterior.loc.flatten(1), posterior.log_scale.flatten(1)
