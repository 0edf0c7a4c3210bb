"""The encoder of a von Mises-Fisher posterior on the unit sphere."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import normalize, softplus

from vaezoo.core import Part
from vaezoo.core.part import network_inputs
from vaezoo.core.precision import full_precision
from vaezoo.distributions import VonMisesFisher

LARGEST_CONCENTRATION = 1e7  # above it, draws are equal in float32


class SphericalEncoder(Part):
    """A von Mises-Fisher distribution q(z|x,c) = vMF(μ, κ).

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, D + 1): μ before normalization, and κ before the softplus.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        raw = full_precision(self.network(*network_inputs(x, c)))
        return VonMisesFisher(normalize(raw[:, :-1], dim=-1), softplus(raw[:, -1]).clamp(max=LARGEST_CONCENTRATION))
