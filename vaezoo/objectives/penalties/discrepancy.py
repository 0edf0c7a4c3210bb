"""Penalties of the distance between a batch of latents and samples of the prior, 0 in the mean if both are equal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vaezoo.core import Inference, Model, full_precision

Kernel = Literal["imq", "rbf"]

#: kernels of a squared distance and a scale s: the inverse multiquadric s / (s + d²), whose gradient has heavy tails,
#: and the Gaussian exp(-d²/s)
KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "imq": lambda squared, scale: scale / (scale + squared),
    "rbf": lambda squared, scale: (-squared / scale).exp(),
}


@dataclass(frozen=True)
class MaximumMeanDiscrepancy:
    r"""The penalty $\mathrm{MMD}^2(q(z), p(z))$, 0-dim.

    Args:
        kernel: "imq" or "rbf".
        bandwidth: $\sigma$ in the scale $s = 2 n \sigma^2$, the mean squared distance of two samples of
            $\mathcal{N}(0, \sigma^2)$ in n dimensions.
    """

    kernel: Kernel
    bandwidth: float

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the discrepancy of the batch's latents from as many samples of the prior."""
        own = inference.z[0].flatten(1)
        scale = 2.0 * own.shape[1] * self.bandwidth**2
        return mean_discrepancy(own, sample_prior(inference).flatten(1), KERNELS[self.kernel], scale)


@dataclass(frozen=True)
class SlicedWassersteinDistance:
    r"""The penalty $\frac1L \sum_l W_2^2(\theta_l \cdot q(z), \theta_l \cdot p(z))$, 0-dim.

    Args:
        projections: $L$, the number of uniform directions $\theta_l$, which are drawn anew at each step.
    """

    projections: int

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the distance of the batch's latents from as many samples of the prior."""
        own = inference.z[0].flatten(1)
        raw = torch.randn(self.projections, own.shape[1], dtype=own.dtype, device=own.device)
        return sliced_wasserstein(own, sample_prior(inference).flatten(1), raw / raw.norm(dim=1, keepdim=True))


def sample_prior(inference: Inference) -> Tensor:
    """Returns one sample of the prior per example, (B, *latent), differentiable if the prior has `rsample`."""
    prior, rows = inference.prior, inference.z.shape[1:2]
    shape = torch.Size() if prior.batch_shape else rows
    return full_precision(prior.rsample(shape) if prior.has_rsample else prior.sample(shape))


def mean_discrepancy(own: Tensor, other: Tensor, kernel: Callable[[Tensor, float], Tensor], scale: float) -> Tensor:
    r"""Returns the unbiased squared maximum mean discrepancy of rows (M, n) and (N, n), 0-dim.

    $\frac{1}{M(M-1)} \sum_{i \ne j} k(z_i, z_j) + \frac{1}{N(N-1)} \sum_{i \ne j} k(z'_i, z'_j) - \frac{2}{MN}
    \sum_{ij} k(z_i, z'_j)$ (Gretton et al., 2012), which may be negative. For a single row, the sum over pairs is 0.
    """

    def values(a: Tensor, b: Tensor) -> Tensor:
        return kernel((a.unsqueeze(1) - b).square().sum(-1), scale)

    def within(rows: Tensor) -> Tensor:
        count = len(rows)  # k(z, z) = 1 on the diagonal for both kernels
        return (values(rows, rows).sum() - count) / max(1, count * (count - 1))

    return within(own) + within(other) - 2.0 * values(own, other).mean()


def sliced_wasserstein(own: Tensor, other: Tensor, directions: Tensor) -> Tensor:
    """Returns the mean over `directions` (L, n) of the squared Wasserstein-2 distance of projected rows (B, n), 0-dim.

    In one dimension, the optimal plan pairs sorted values.
    """
    with torch.autocast(own.device.type, enabled=False):  # matrix products would be in half precision
        first, second = ((rows @ directions.T).sort(0).values for rows in (own, other))
    return (first - second).square().mean()
