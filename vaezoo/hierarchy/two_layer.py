"""The bottom-up encoder of two levels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.core.part import network_inputs
from vaezoo.distributions.normal import DiagonalNormal, normal_from
from vaezoo.hierarchy.distributions import ChainPosterior


class ChainEncoder(Part):
    """An encoder q(h_1|x) q(h_2|h_1); `lower` and `upper` are the networks, with outputs (B, 2, size)."""

    def __init__(self, lower: nn.Module, upper: nn.Module) -> None:
        super().__init__()
        self.lower, self.upper = lower, upper

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""

        def above(low: Tensor) -> DiagonalNormal:
            return normal_from(self.upper(*network_inputs(low, c)), 1)

        return ChainPosterior(normal_from(self.lower(*network_inputs(x, c)), 1), above)
