"""Independent Laplace distributions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaezoo.distributions.joint_sampling import sum_event

LOG_TWO = math.log(2.0)


class DiagonalLaplace(Distribution):
    r"""Independent Laplace distributions over an event of any shape, $p(x) = e^{-|x - \mu| / b} / (2b)$.

    Args:
        loc: (*batch, *event)
        log_scale: (*batch, *event), $\log b$
        event_dims: how many trailing dimensions are the event.
    """

    arg_constraints = {"loc": constraints.real, "log_scale": constraints.real}  # noqa: RUF012  (as torch declares it)
    has_rsample = True

    def __init__(self, loc: Tensor, log_scale: Tensor, event_dims: int = 1) -> None:
        self.loc, self.log_scale, self.event_dims = loc, log_scale, event_dims
        split = loc.dim() - event_dims
        super().__init__(loc.shape[:split], loc.shape[split:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """The whole space."""
        return constraints.independent(constraints.real, self.event_dims)

    @property
    def mean(self) -> Tensor:
        """The location, (*batch, *event)."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The location, (*batch, *event)."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """The variance 2b², (*batch, *event)."""
        return 2.0 * (2.0 * self.log_scale).exp()

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns x (*sample, *batch, *event), differentiable in the parameters."""
        shape = (2, *sample_shape, *self.loc.shape)
        noise = torch.empty(shape, dtype=self.loc.dtype, device=self.loc.device).exponential_()
        return self.loc + self.log_scale.exp() * (noise[0] - noise[1])

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value`, (*sample, *batch), nats."""
        distance = (value - self.loc).abs() * (-self.log_scale).exp()
        return -sum_event(distance + self.log_scale + LOG_TWO, self.event_dims)
