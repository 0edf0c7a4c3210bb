"""The prior of a normalizing flow."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import FlowDistribution
from vaezoo.networks import Couplings
from vaezoo.priors.normal import FixedPrior


class FlowPrior(FixedPrior):
    """The density p(z|c) of a flow from z to N(0, 1); initially N(0, 1).

    Args:
        latent: the event shape of z.
        flow: a flow of z as a vector, which takes the context if there is one.
    """

    def __init__(self, latent: Sequence[int], flow: Couplings) -> None:
        super().__init__(latent)
        self.flow = flow

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns p(z|c), with a batch (B,) if there is a context."""
        return FlowDistribution(self.flow, self.zeros, c)
