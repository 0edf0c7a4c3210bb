"""The uniform prior on the unit sphere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.distributions import UniformSphere

__all__ = ["UniformSpherePrior"]


class UniformSpherePrior(Part):
    """The uniform distribution on the unit sphere, for every context.

    Args:
        latent: the event shape of z, (D,).
    """

    zeros: Tensor

    def __init__(self, latent: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(*latent), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        return UniformSphere(self.zeros)
