r"""The aggregate posterior $q(z) = \frac1N \sum_n q(z|x_n)$, estimated from a batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import Inference, Model
from vaezoo.distributions.joint_sampling import LOG_TWO_PI
from vaezoo.distributions.normal import DiagonalNormal
from vaezoo.errors import CompositionError
from vaezoo.objectives.weighted import Penalty

__all__ = ["covariance", "factorised", "from_identity", "log_aggregate"]


def factorised(posterior: Distribution) -> tuple[Tensor, Tensor]:
    """Returns means and log standard deviations (B, n) of a posterior that is a Gaussian for each latent.

    Raises:
        CompositionError: it is something else.
    """
    if not isinstance(posterior, DiagonalNormal):
        raise CompositionError(
            f"Got a posterior of type {type(posterior).__name__}; the latents' aggregate posterior is estimated one by "
            "one, which needs a Gaussian for each (DiagonalNormal). Leave out the variant that changes the encoder."
        )
    return posterior.loc.flatten(1), posterior.log_scale.flatten(1)


def log_aggregate(inference: Inference, examples: int) -> tuple[Tensor, Tensor]:
    r"""Returns estimates of $\log q(z)$, (K, B), and of each $\log q(z_j)$, (K, B, n), nats.

    The minibatch-stratified estimator (Chen et al., 2018, https://arxiv.org/abs/1802.04942, appendix C.2): z was drawn
    from its own example's posterior, which counts 1/N; the B - 1 others stand for the rest of the set, each for
    (N - 1)/(N (B - 1)). The paper gives one of the others, as they happen to come, a weight of its own; this is its
    mean over their order: as unbiased, less noisy, and exact when the batch is the whole set.

    Args:
        inference: a pass whose posterior is a diagonal Gaussian.
        examples: N, the size of the training set.
    """
    loc, log_scale = factorised(inference.posterior)
    z = inference.z.flatten(2).unsqueeze(2)  # (K, B, 1, n), against the posteriors (B, n) of all examples
    log_density = -0.5 * (((z - loc) * (-log_scale).exp()).square() + LOG_TWO_PI) - log_scale
    weights = log_stratified_weights(len(loc), examples, loc)
    joint = (log_density.sum(-1) + weights).logsumexp(2)
    return joint, (log_density + weights.unsqueeze(-1)).logsumexp(2)


def log_stratified_weights(batch: int, examples: int, like: Tensor) -> Tensor:
    """Returns log weights (B, B), in each row of one draw: its own example on the diagonal, beside it the others."""
    own = torch.eye(batch, dtype=torch.bool, device=like.device)
    if batch == 1 or examples == 1:  # nobody to stand for the others, or no others
        return like.new_zeros(batch, batch).masked_fill_(~own, -torch.inf)
    others = math.log(examples - 1) - math.log(examples) - math.log(batch - 1)
    return like.new_full((batch, batch), others).masked_fill_(own, -math.log(examples))


def covariance(rows: Tensor) -> Tensor:
    """Returns the covariance (n, n) of rows (B, n), with 1/B: exact when the batch is the whole set."""
    centred = rows - rows.mean(0)
    with torch.autocast(rows.device.type, enabled=False):  # a product of matrices would be in half precision
        return centred.T @ centred / len(rows)


@dataclass(frozen=True)
class SquaredEntries:
    """A penalty of a covariance C (n, n), 0-dim: Σ (C_ii - 1)² on its diagonal, or Σ C_ij² beside it."""

    covariance: Callable[[Model, Inference], Tensor]
    diagonal: bool

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the sum."""
        entries = self.covariance(model, inference)
        own = entries.diagonal()
        return (own - 1.0).square().sum() if self.diagonal else (entries - own.diag()).square().sum()


def from_identity(
    of: Callable[[Model, Inference], Tensor], off_diagonal: float, diagonal: float
) -> dict[str, tuple[float, Penalty]]:
    """Returns the penalties of a covariance that is not the identity, with their weights (Kumar et al., 2018)."""
    return {
        "off_diagonal": (off_diagonal, SquaredEntries(of, diagonal=False)),
        "diagonal": (diagonal, SquaredEntries(of, diagonal=True)),
    }


@dataclass(frozen=True)
class OfAggregate:
    """A term of `log_q`, log q(z) and the sum of log q(z_j), each (K, B), of a training set of so many examples."""

    term: Callable[[Inference, Tensor, Tensor], Tensor]
    examples: int

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the term's mean over the draws, (B,), nats."""
        joint, each = log_aggregate(inference, self.examples)
        return self.term(inference, joint, each.sum(-1)).mean(0)


def mutual_information(inference: Inference, joint: Tensor, independent: Tensor) -> Tensor:
    """Returns log q(z|x) - log q(z), (K, B)."""
    return inference.log_q - joint


def total_correlation(inference: Inference, joint: Tensor, independent: Tensor) -> Tensor:
    """Returns log q(z) - log of the product of all q(z_j), (K, B)."""
    return joint - independent


def dimension_wise(inference: Inference, joint: Tensor, independent: Tensor) -> Tensor:
    """Returns log of the product of all q(z_j) - log p(z), (K, B)."""
    return independent - inference.prior.log_prob(inference.z)


def of_means(model: Model, inference: Inference) -> Tensor:
    """Returns the covariance of the posterior means, (n, n)."""
    return covariance(factorised(inference.posterior)[0])


def of_draws(model: Model, inference: Inference) -> Tensor:
    """Returns the covariance of the aggregate posterior, (n, n): that of the means, and the mean of the variances."""
    loc, log_scale = factorised(inference.posterior)
    return covariance(loc) + (2.0 * log_scale).exp().mean(0).diag()
