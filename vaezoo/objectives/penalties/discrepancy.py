r"""Penalties of the distance between a batch of latents and samples of the prior, 0 in the mean if both are equal.

With a context, $q(z|c)$ is compared with $p(z|c)$: the samples of the prior have the contexts of the batch, and pairs
(z, c) are compared.
"""

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


#: scale of the kernel of contexts, as a share of their mean squared distance in the batch: other labels count nothing
CONTEXT_SCALE = 0.1
#: root-mean-square of the projected contexts, as a multiple of that of the projected samples of the prior
CONTEXT_SPREAD = 5.0


@dataclass(frozen=True)
class MaximumMeanDiscrepancy:
    r"""The penalty $\mathrm{MMD}^2(q(z), p(z))$, 0-dim; with a context the mean of that of $q(z|c)$ and $p(z|c)$.

    Args:
        kernel: "imq" or "rbf".
        bandwidth: $\sigma$ in the scale $s = 2 n \sigma^2$, the mean squared distance of two samples of
            $\mathcal{N}(0, \sigma^2)$ in n dimensions.
    """

    kernel: Kernel
    bandwidth: float

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the discrepancy of the batch's latents from as many samples of the prior."""
        own, drawn = inference.z[0].flatten(1), sample_prior(inference).flatten(1)
        kernel, scale = KERNELS[self.kernel], 2.0 * own.shape[1] * self.bandwidth**2
        if inference.c is None:
            return mean_discrepancy(own, drawn, kernel, scale)
        return conditional_discrepancy(own, drawn, context_similarities(inference.c), kernel, scale)


@dataclass(frozen=True)
class SlicedWassersteinDistance:
    r"""The penalty $\frac1L \sum_l W_2^2(\theta_l \cdot q(z), \theta_l \cdot p(z))$, 0-dim; with a context, of (z, c).

    Args:
        projections: $L$, the number of uniform directions $\theta_l$, which are drawn anew at each step.
    """

    projections: int

    def __call__(self, model: Model, inference: Inference) -> Tensor:
        """Returns the distance of the batch's latents from as many samples of the prior."""
        own = inference.z[0].flatten(1)
        raw = torch.randn(self.projections, own.shape[1], dtype=own.dtype, device=own.device)
        directions, drawn = raw / raw.norm(dim=1, keepdim=True), sample_prior(inference).flatten(1)
        if inference.c is not None:
            c = inference.c.to(own.dtype)
            c = (c - c.mean(0)) * CONTEXT_SPREAD * (drawn.detach().square().mean() / spread(c)).sqrt()
            own, drawn = (torch.cat([each, c], 1) for each in (own, drawn))
            directions = torch.cat([directions, torch.randn_like(c[:1].expand(self.projections, -1))], 1)
        return sliced_wasserstein(own, drawn, directions)


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


def context_similarities(c: Tensor) -> Tensor:
    """Returns similarities (B, B) of contexts (B, n): 1 for equal ones, 0 on the diagonal.

    The kernel is Gaussian, with a scale of `CONTEXT_SCALE` times the mean squared distance of two contexts.
    """
    squared = (c.unsqueeze(1) - c).square().sum(-1)
    scale = (CONTEXT_SCALE * squared.mean()).clamp(min=torch.finfo(squared.dtype).tiny)
    return (-squared / scale).exp().fill_diagonal_(0.0)


def conditional_discrepancy(
    own: Tensor, other: Tensor, similar: Tensor, kernel: Callable[[Tensor, float], Tensor], scale: float
) -> Tensor:
    r"""Returns the weighted mean of $k(z_i, z_j) + k(z'_i, z'_j) - k(z_i, z'_j) - k(z'_i, z_j)$ over pairs, 0-dim.

    With weights 1 for equal and 0 for different labels, it is an unbiased estimate of the squared maximum mean
    discrepancy of $q(z|c)$ and $p(z|c)$, averaged over pairs of equal labels.

    The rows z_i of `own` and z'_i of `other`, (B, n), have the same context; the weights `similar`, (B, B), are
    symmetric and 0 on the diagonal.
    """

    def values(a: Tensor, b: Tensor) -> Tensor:
        return kernel((a.unsqueeze(1) - b).square().sum(-1), scale)

    pairs = values(own, own) + values(other, other) - 2.0 * values(own, other)
    return (similar * pairs).sum() / similar.sum().clamp(min=torch.finfo(similar.dtype).tiny)


def spread(c: Tensor) -> Tensor:
    """Returns the sum of the variances of contexts (B, n) over the batch, 0-dim, positive."""
    return (c - c.mean(0)).square().sum(1).mean().clamp(min=torch.finfo(c.dtype).eps)
