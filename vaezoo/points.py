"""Encoders without noise: their posterior is a point mass in a continuous space, which has no density."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.distributions import full_precision
from vaezoo.elbo import Inference, Model, Part

__all__ = ["PointEncoder", "PointMass", "half_square"]


class PointMass(Distribution):
    """All mass at one point for each example.

    It has no density, so that there is no bound: `ELBO.bound` is -inf and `log_evidence` raises `NoDensityError`. The
    KL divergence to a prior is infinite; what an `ELBO` reports as its rate is the part that is finite, -log p(z).

    Args:
        value: (B, *latent), the points.
    """

    has_rsample = True
    has_density = False
    deterministic = True  # every draw is the same
    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)

    def __init__(self, value: Tensor) -> None:
        self.value = value
        super().__init__(value.shape[:1], value.shape[1:], validate_args=False)

    @property
    def center(self) -> Tensor:
        """The points, (B, *latent)."""
        return self.value

    @property
    def mean(self) -> Tensor:
        """The points, (B, *latent)."""
        return self.value

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns the points (*sample, B, *latent), and zeros (*sample, B) where a density would have its logarithm."""
        value = self.value.expand(*sample_shape, *self.value.shape)
        return value, value.new_zeros(value.shape[: len(sample_shape) + 1])

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns the points, (*sample, B, *latent)."""
        return self.rsample_and_log_prob(sample_shape)[0]


class PointEncoder(Part):
    """$z = f(x,c)$.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, *latent).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point of each example."""
        raw = self.network(x) if c is None else self.network(x, c)
        return PointMass(full_precision(raw).squeeze(1))


def half_square(model: Model, inference: Inference) -> Tensor:
    """The penalty |z|²/2, (B,): what is finite of the rate of a point under N(0, 1), but for a constant."""
    return 0.5 * inference.z[0].flatten(1).square().sum(1)
