"""Diagonal normals, cheaper than torch's own: arguments are not checked, since `VAE` validates all inputs."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.kl import register_kl
from torch.nn.functional import hardtanh

from vaezoo.core import full_precision
from vaezoo.distributions.joint_sampling import LOG_SCALE_LIMIT, LOG_TWO_PI, JointlyDrawn, sum_event


class DiagonalNormal(JointlyDrawn):
    r"""$\mathcal{N}(\mu, \mathrm{diag}(\sigma^2))$ over an event of any shape, from `loc` and `log_scale`.

    Args:
        loc: (*batch, *event)
        log_scale: (*batch, *event), $\log\sigma$
        event_dims: how many trailing dimensions are the event.
    """

    arg_constraints = {"loc": constraints.real, "log_scale": constraints.real}  # noqa: RUF012  (as torch declares it)

    def __init__(self, loc: Tensor, log_scale: Tensor, event_dims: int = 1) -> None:
        self.loc, self.log_scale, self.event_dims = loc, log_scale, event_dims
        split = loc.dim() - event_dims
        super().__init__(loc.shape[:split], loc.shape[split:])

    @property
    def mean(self) -> Tensor:
        """The location, (*batch, *event)."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The location, (*batch, *event)."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """The standard deviation, (*batch, *event)."""
        return self.log_scale.exp()

    @property
    def variance(self) -> Tensor:
        """The variance, (*batch, *event)."""
        return (2.0 * self.log_scale).exp()

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, *batch, *event) and its log density (*sample, *batch)."""
        noise = torch.randn(*sample_shape, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        # Without the dimension of a single sample, the gradient needs no sum over it.
        drawn = noise.squeeze(0) if tuple(sample_shape) == (1,) else noise
        z = torch.addcmul(self.loc, self.log_scale.exp(), drawn).view_as(noise)
        log_density = -0.5 * (noise.square() + LOG_TWO_PI) - self.log_scale
        return z, sum_event(log_density, self.event_dims)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value`, (*sample, *batch), nats."""
        standardized = (value - self.loc) * (-self.log_scale).exp()
        return sum_event(-0.5 * (standardized.square() + LOG_TWO_PI) - self.log_scale, self.event_dims)

    def entropy(self) -> Tensor:
        """Returns the differential entropy, (*batch), nats."""
        return sum_event(self.log_scale + 0.5 * (1.0 + LOG_TWO_PI), self.event_dims)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "DiagonalNormal":
        """Returns the same distribution with a larger batch."""
        shape = (*batch_shape, *self.event_shape)
        return DiagonalNormal(self.loc.expand(shape), self.log_scale.expand(shape), self.event_dims)

    def tempered(self, temperature: float) -> "DiagonalNormal":
        """Returns the normal with its standard deviations multiplied by `temperature`."""
        return DiagonalNormal(self.loc, self.log_scale + math.log(temperature), self.event_dims)

    def take(self, indices: Tensor) -> "DiagonalNormal":
        """Returns the elements `indices` of a batch (M,), with the shape of `indices` as batch shape."""
        return DiagonalNormal(self.loc[indices], self.log_scale[indices], self.event_dims)


class StandardNormal(DiagonalNormal):
    """N(0, 1); its log density and KL skip the parameters, which are all 0."""

    def __init__(self, zeros: Tensor, event_dims: int) -> None:
        super().__init__(zeros, zeros, event_dims)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value`, (*sample, *batch), nats."""
        return sum_event(-0.5 * (value.square() + LOG_TWO_PI), self.event_dims)


@register_kl(DiagonalNormal, DiagonalNormal)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_normal_normal(p: DiagonalNormal, q: DiagonalNormal) -> Tensor:
    """Returns KL(p || q), (*batch), nats."""
    ratio = p.log_scale - q.log_scale
    squares = ((p.loc - q.loc) * (-q.log_scale).exp()).square()
    return sum_event(0.5 * ((2.0 * ratio).exp() + squares - 1.0) - ratio, p.event_dims)


@register_kl(DiagonalNormal, StandardNormal)  # type: ignore[untyped-decorator]  # torch's own has no types
def kl_normal_standard(p: DiagonalNormal, q: StandardNormal) -> Tensor:
    """Returns KL(p || N(0, 1)), (*batch), nats."""
    return sum_event(0.5 * ((2.0 * p.log_scale).exp() + p.loc.square() - 1.0) - p.log_scale, p.event_dims)


def normal_from(raw: Tensor, event_dims: int, start: float = 0.0) -> DiagonalNormal:
    """Returns the normal of a network's raw output (*batch, 2, *event), μ and log σ - `start`; log σ is clamped."""
    return DiagonalNormal(*location_and_scale(raw, event_dims, start), event_dims)


def location_and_scale(raw: Tensor, event_dims: int, start: float = 0.0) -> tuple[Tensor, Tensor]:
    """Returns location and log scale of a network's raw output (*batch, 2, *event); the log scale is clamped."""
    loc, log_scale = full_precision(raw).unbind(-1 - event_dims)
    log_scale = log_scale + start if start else log_scale
    return loc, hardtanh(log_scale, -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT)
