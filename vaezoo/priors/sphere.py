"""The uniform prior on the unit sphere."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import UniformSphere
from vaezoo.priors.normal import FixedPrior


class UniformSpherePrior(FixedPrior):
    """The uniform distribution on the unit sphere in the space of `latent`, (D,), for every context."""

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        return UniformSphere(self.zeros)
