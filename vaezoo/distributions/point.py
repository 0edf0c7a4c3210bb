"""Point masses: on one of finitely many values, and in a continuous space, where there is no density."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vaezoo.distributions.joint_sampling import JointlyDrawn

__all__ = ["ContinuousDelta"]


class Delta(JointlyDrawn):
    """All mass at one point for each example: every draw is that point.

    Args:
        value: (B, *latent), the points.
    """

    deterministic = True  # every draw is the same

    def __init__(self, value: Tensor) -> None:
        self.value = value
        super().__init__(value.shape[:1], value.shape[1:])

    @property
    def center(self) -> Tensor:
        """The points, (B, *latent)."""
        return self.value

    @property
    def mean(self) -> Tensor:
        """The points, (B, *latent)."""
        return self.value

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns the points (*sample, B, *latent), and zeros (*sample, B): the only outcome has probability 1."""
        value = self.value.expand(*sample_shape, *self.value.shape)
        return value, value.new_zeros(value.shape[: len(sample_shape) + 1])


class ContinuousDelta(Delta):
    """A point in a continuous space for each example.

    It has no density, so that there is no bound: `ELBO.bound` is -inf and `log_evidence` raises `NoDensityError`. The
    KL divergence to a prior is infinite; what an `ELBO` reports as its rate is the part that is finite, -log p(z).

    Args:
        value: (B, *latent), the points.
    """

    has_density = False
