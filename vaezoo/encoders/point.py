"""The deterministic encoder, whose posterior is a point mass in a continuous space and has no density."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.core.part import network_inputs
from vaezoo.core.precision import full_precision
from vaezoo.distributions import ContinuousDelta


class PointEncoder(Part):
    """A deterministic encoder, $z = f(x,c)$.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, *latent).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point of each example."""
        return ContinuousDelta(full_precision(self.network(*network_inputs(x, c))).squeeze(1))
