"""Encoders without noise: their posterior is a point mass in a continuous space, which has no density."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.distributions import Point, full_precision
from vaezoo.elbo import Inference, Model, Part
from vaezoo.parts import given

__all__ = ["PointEncoder", "PointMass", "half_square"]


class PointMass(Point):
    """A point in a continuous space for each example.

    It has no density, so that there is no bound: `ELBO.bound` is -inf and `log_evidence` raises `NoDensityError`. The
    KL divergence to a prior is infinite; what an `ELBO` reports as its rate is the part that is finite, -log p(z).

    Args:
        value: (B, *latent), the points.
    """

    has_density = False


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
        return PointMass(full_precision(self.network(*given(x, c))).squeeze(1))


def half_square(model: Model, inference: Inference) -> Tensor:
    """The penalty |z|²/2, (B,): what is finite of the rate of a point under N(0, 1), but for a constant."""
    return 0.5 * inference.z[0].flatten(1).square().sum(1)
