"""The standard normal prior, and a normal prior that depends on the context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.distributions.normal import StandardNormal, normal_from


class FixedPrior(Part):
    """Base of priors that need no tensor of their own, but the device and dtype of the model.

    Args:
        latent: the event shape of z.
    """

    zeros: Tensor

    def __init__(self, latent: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(*latent), persistent=False)


class StandardNormalPrior(FixedPrior):
    """The standard normal distribution N(0, 1) over `latent`, for every context."""

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns N(0, 1) with no batch dimension."""
        return StandardNormal(self.zeros, self.zeros.dim())


class ConditionalNormalPrior(Part):
    """A learned diagonal Gaussian N(μ(c), σ(c)²) (Sohn et al., 2015).

    Args:
        network: maps (B, context) to (B, 2, *latent): μ and log σ.
        latent: the event shape of z.
    """

    def __init__(self, network: nn.Module, latent: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.event_dims = len(latent)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior given the context `c` (B, context) of each example."""
        return normal_from(self.network(c), self.event_dims)
