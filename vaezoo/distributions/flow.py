"""Distributions transformed by invertible maps."""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from vaezoo.core import as_built
from vaezoo.distributions.joint_sampling import JointlyDrawn
from vaezoo.distributions.normal import DiagonalNormal, StandardNormal


class Flow(Protocol):
    """An invertible map of vectors with known Jacobian."""

    def forward(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns u (..., D) and log |det ∂u/∂z| (...)."""

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns z (..., D) and log |det ∂u/∂z| (...)."""


class FlowDistribution(JointlyDrawn):
    """The distribution of z where its image u under a flow is N(0, 1).

    Args:
        flow: from z to u (`forward`) and back (`inverse`), both with log |det ∂u/∂z|.
        zeros: (*latent), of the type and device of the draws.
        c: contexts (B, context), one for each element of the batch; None for no batch dimension.
        temperature: standard deviation of u.
    """

    def __init__(self, flow: Flow, zeros: Tensor, c: Tensor | None = None, temperature: float = 1.0) -> None:
        self.flow, self.zeros, self.c, self.temperature = flow, zeros, c, temperature
        super().__init__(() if c is None else c.shape[:1], zeros.shape)

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, *batch, *latent) and its log density (*sample, *batch), nats."""
        u, log_density = self._base().expand(self.batch_shape).rsample_and_log_prob(sample_shape)
        z, log_det = self.flow.inverse(u, self.c)
        return z.unflatten(-1, self.event_shape), log_density + log_det

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, *batch, *latent), (*sample, *batch), nats."""
        u, log_det = self.flow.forward(value.flatten(value.dim() - self.zeros.dim()), self.c)
        return self._base().log_prob(u) + log_det

    def tempered(self, temperature: float) -> "FlowDistribution":
        """Returns the distribution with the standard deviation of u multiplied by `temperature`."""
        return FlowDistribution(self.flow, self.zeros, self.c, temperature * self.temperature)

    def _base(self) -> DiagonalNormal:
        standard = StandardNormal(self.zeros.flatten(), 1)
        return standard if self.temperature == 1.0 else standard.tempered(self.temperature)


class FlowPosterior(JointlyDrawn):
    """A normal transformed by a flow without an inverse, so that the density is limited to its own draws.

    Args:
        base: the normal, over (B, D).
        flow: maps z (..., B, D) to z' and log |det ∂z'/∂z| (..., B).
        latent: the event shape of z', of D elements.
    """

    knows_density = False

    def __init__(
        self, base: DiagonalNormal, flow: Callable[[Tensor], tuple[Tensor, Tensor]], latent: Sequence[int]
    ) -> None:
        self.base, self.flow = base, flow
        super().__init__(base.batch_shape, latent)

    @property
    @as_built
    def center(self) -> Tensor:
        """The image of the normal's mean, (B, *latent)."""
        return self.flow(self.base.loc)[0].reshape(*self.batch_shape, *self.event_shape)

    @as_built
    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, B, *latent) and its log density (*sample, B), nats."""
        start, log_density = self.base.rsample_and_log_prob(sample_shape)
        z, log_det = self.flow(start)
        return z.unflatten(-1, self.event_shape), log_density - log_det
