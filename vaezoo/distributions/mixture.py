r"""Mixtures of distributions of one kind, such as the aggregated posterior or a mixture of Gaussians.

$$p(z) = \sum_m \pi_m\, p_m(z)$$
"""

import math
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaezoo.core import Posterior, Temperable, widest
from vaezoo.distributions.joint_sampling import LOG_TWO_PI
from vaezoo.distributions.normal import DiagonalNormal


class Components(Protocol):
    """Distributions with batch shape (M,) that can be indexed."""

    def take(self, indices: Tensor) -> Distribution:
        """Returns the elements `indices` of the batch, with the shape of `indices` as batch shape."""


def log_prob_of_each(components: Distribution, value: Tensor) -> Tensor:
    """Returns the log density of `value` (*sample, *event) under each of M components, (*sample, M), nats."""
    events = len(components.event_shape)
    if not isinstance(components, DiagonalNormal):
        return components.log_prob(value.unsqueeze(-1 - events))
    # Two matrix products, in double precision, since squares are subtracted from squares.
    loc, log_scale = (widest(each).flatten(1) for each in (components.loc, components.log_scale))
    z = widest(value).flatten(value.dim() - events)
    precision = (-2.0 * log_scale).exp()
    squares = z.square() @ precision.T - 2.0 * (z @ (precision * loc).T) + (precision * loc.square()).sum(1)
    constants = log_scale.sum(1) + 0.5 * loc.shape[1] * LOG_TWO_PI
    return (-0.5 * squares - constants).to(value.dtype)


class Mixture(Posterior):
    r"""A mixture $\sum_m \pi_m\, p_m(z)$ of M components.

    Args:
        components: a distribution with batch shape (M,).
        log_weights: $\log \pi$, (M,), normalized; None for equal weights.
    """

    def __init__(self, components: Distribution, log_weights: Tensor | None = None) -> None:
        self.components, self.log_weights = components, log_weights
        super().__init__(torch.Size(), components.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:
        """The support of the components."""
        return self.components.support

    def weighted(self, value: Tensor) -> Tensor:
        r"""Returns $\log \pi_m + \log p_m$ of `value` (*sample, *event), (*sample, M), nats."""
        each = log_prob_of_each(self.components, value)
        return each - math.log(each.shape[-1]) if self.log_weights is None else each + self.log_weights

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, *event), (*sample), nats."""
        return self.weighted(value).logsumexp(-1)

    def responsibilities(self, value: Tensor) -> Tensor:
        """Returns p(component | value) for `value` (*sample, *event), (*sample, M)."""
        return self.weighted(value).softmax(-1)

    def tempered(self, temperature: float) -> "Mixture":
        """Returns the mixture with each component at `temperature`, and the same weights."""
        if not isinstance(self.components, Temperable):
            raise NotImplementedError
        return Mixture(self.components.tempered(temperature), self.log_weights)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns draws (*sample, *event), each from a component chosen by its weight."""
        weights = torch.zeros(self.components.batch_shape) if self.log_weights is None else self.log_weights
        chosen = torch.multinomial(weights.float().exp(), math.prod(sample_shape), replacement=True)
        return cast(Components, self.components).take(chosen.view(tuple(sample_shape))).sample()
