"""Point masses: on one of finitely many values, and in a continuous space, where they have no density."""

from collections.abc import Sequence

from torch import Tensor

from vaezoo.distributions.joint_sampling import JointlyDrawn


class Delta(JointlyDrawn):
    """A point mass for each example.

    Args:
        value: (B, *latent), the points.
    """

    deterministic = True

    def __init__(self, value: Tensor) -> None:
        self.value = value
        super().__init__(value.shape[:1], value.shape[1:])

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
    KL divergence to a prior is infinite; an `ELBO` reports its finite part, -log p(z), as the rate.

    Args:
        value: (B, *latent), the points.
    """

    has_density = False
