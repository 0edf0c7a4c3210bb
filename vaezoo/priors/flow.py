"""The prior of a normalizing flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.distributions import FlowDistribution
from vaezoo.networks import Couplings


class FlowPrior(Part):
    """The density p(z|c) of a flow from z to N(0, 1); initially N(0, 1).

    Args:
        latent: the event shape of z.
        flow: a flow of z as a vector, which takes the context if there is one.
    """

    zeros: Tensor

    def __init__(self, latent: Sequence[int], flow: Couplings) -> None:
        super().__init__()
        self.flow = flow
        self.register_buffer("zeros", torch.zeros(*latent), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns p(z|c), with a batch (B,) if there is a context."""
        return FlowDistribution(self.flow, self.zeros, c)
