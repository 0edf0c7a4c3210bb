"""How far a batch of latents is from draws of the prior: kernels, transport along lines; 0 in the mean where equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaezoo.core import Inference, Model
from vaezoo.core.precision import full_precision

__all__ = [
    "KERNELS",
    "Kernel",
    "MeanDiscrepancy",
    "SlicedDistance",
    "mean_discrepancy",
    "prior_draws",
    "prior_sample",
    "sliced",
]

Kernel = Literal["imq", "rbf"]


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Returns the squared distances (M, N) of rows (M, n) and (N, n)."""
    return (a.unsqueeze(1) - b).square().sum(-1)


def imq(squared: Tensor, scale: float) -> Tensor:
    """Returns the inverse multiquadric s / (s + d²), whose tails still pull what is far away."""
    return scale / (scale + squared)


def rbf(squared: Tensor, scale: float) -> Tensor:
    """Returns the Gaussian exp(-d²/s)."""
    return (-squared / scale).exp()


KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {"imq": imq, "rbf": rbf}


def mean_discrepancy(own: Tensor, drawn: Tensor, kernel: Callable[[Tensor, float], Tensor], scale: float) -> Tensor:
    r"""Returns the squared maximum mean discrepancy of rows (M, n) and (N, n), 0-dim, without bias.

    $\frac{1}{M(M-1)} \sum_{i \ne j} k(z_i, z_j) + \frac{1}{N(N-1)} \sum_{i \ne j} k(z'_i, z'_j) - \frac{2}{MN}
    \sum_{ij} k(z_i, z'_j)$ (Gretton et al., 2012): it may be negative. A single row has no pairs, and none are counted.
    """

    def within(rows: Tensor) -> Tensor:
        # k(z, z) = 1 on the diagonal of either kernel
        count = len(rows)
        return (kernel(squared_distances(rows, rows), scale).sum() - count) / max(1, count * (count - 1))

    return within(own) + within(drawn) - 2.0 * kernel(squared_distances(own, drawn), scale).mean()


def sliced(own: Tensor, drawn: Tensor, directions: Tensor) -> Tensor:
    """Returns the mean over `directions` (L, n) of the squared Wasserstein-2 distance of projected rows (B, n), 0-dim.

    Along a line the best plan pairs both in their order.
    """
    with torch.autocast(own.device.type, enabled=False):  # a product of matrices would be in half precision
        first, second = ((rows @ directions.T).sort(0).values for rows in (own, drawn))
    return (first - second).square().mean()


def prior_sample(inference: Inference) -> Tensor:
    """Returns one draw of the prior for each example, (B, *latent), differentiable where the prior's draws are."""
    prior, rows = inference.prior, inference.z.shape[1:2]
    shape = torch.Size() if prior.batch_shape else rows
    return full_precision(prior.rsample(shape) if prior.has_rsample else prior.sample(shape))


def prior_draws(inference: Inference) -> Tensor:
    """Returns `prior_sample` as rows, (B, n)."""
    return prior_sample(inference).flatten(1)


@dataclass(frozen=True)
class MeanDiscrepancy:
    r"""The penalty $\mathrm{MMD}^2(q(z), p(z))$, 0-dim.

    Args:
        kernel: "imq" or "rbf".
        bandwidth: $\sigma$; lengths are measured by $s = 2 n \sigma^2$, the mean squared distance of two draws of
            $\mathcal{N}(0, \sigma^2)$ in n dimensions.
    """

    kernel: Kernel
    bandwidth: float

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the discrepancy of the batch's draws and as many of the prior."""
        own = inference.z[0].flatten(1)
        scale = 2.0 * own.shape[1] * self.bandwidth**2
        return mean_discrepancy(own, prior_draws(inference), KERNELS[self.kernel], scale)


@dataclass(frozen=True)
class SlicedDistance:
    r"""The penalty $\frac1L \sum_l W_2^2(\theta_l \cdot q(z), \theta_l \cdot p(z))$, 0-dim.

    Args:
        projections: $L$, uniform directions $\theta_l$ that are drawn anew at each step.
    """

    projections: int

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the distance of the batch's draws and as many of the prior."""
        own = inference.z[0].flatten(1)
        raw = torch.randn(self.projections, own.shape[1], dtype=own.dtype, device=own.device)
        return sliced(own, prior_draws(inference), raw / raw.norm(dim=1, keepdim=True))
