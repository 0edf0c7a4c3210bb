"""Independent elements of which some may be missing."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions.joint_sampling import sum_event
from vaezoo.distributions.laplace import DiagonalLaplace
from vaezoo.distributions.normal import DiagonalNormal


class ObservedElements(Distribution):
    r"""Independent elements; the log density of a value is the sum over its observed elements, those that are not NaN.

    A missing element is integrated out, $\log p(x_\text{observed}) = \sum_{i\ \text{observed}} \log p_i(x_i)$.

    Args:
        elements: a distribution with batch shape (*batch, *event) and no event dimensions.
        event_dims: how many trailing dimensions are the event.
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)
    has_rsample = True

    def __init__(self, elements: DiagonalNormal | DiagonalLaplace, event_dims: int) -> None:
        self.elements = elements
        shape = elements.batch_shape
        super().__init__(shape[: len(shape) - event_dims], shape[len(shape) - event_dims :], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The mean of each element, (*batch, *event)."""
        return self.elements.mean

    @property
    def mode(self) -> Tensor:
        """The mode of each element, (*batch, *event)."""
        return self.elements.mode

    @property
    def variance(self) -> Tensor:
        """The variance of each element, (*batch, *event)."""
        return self.elements.variance

    @property
    def log_scale(self) -> Tensor:
        """The log scale of each element, (*batch, *event)."""
        return self.elements.log_scale

    def rsample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns x (*sample, *batch, *event) without gaps, differentiable in the parameters."""
        return self.elements.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p of the observed elements of `value`, (*sample, *batch), nats; 0 without any."""
        gap = value.isnan()
        found = self.elements.log_prob(torch.where(gap, 0.0, value))
        return sum_event(torch.where(gap, 0.0, found), len(self.event_shape))
