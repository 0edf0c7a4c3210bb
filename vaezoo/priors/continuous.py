"""Priors over continuous latents: normal, of a normalizing flow, and uniform on the sphere."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.distributions import FlowDistribution, StandardNormal, UniformSphere, normal_from
from vaezoo.networks import Couplings


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


class UniformSpherePrior(FixedPrior):
    """The uniform distribution on the unit sphere in the space of `latent`, (D,), for every context."""

    has_dependent_latents = True

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        return UniformSphere(self.zeros)
