"""Distributions of pixels: Bernoulli, continuous Bernoulli and discretized logistic."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from vaezoo.distributions.joint_sampling import sum_event

AT_ONCE = 2**18  # pixels times levels whose temporaries stay in cache


class BernoulliPixels(Distribution):
    """Independent Bernoulli pixels, from logits (*batch, *event).

    `log_prob` also takes gray values in [0, 1]: it is then the cross-entropy, a loss, not a log-likelihood.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012  (torch declares it as a plain class attribute)

    def __init__(self, logits: Tensor, event_dims: int) -> None:
        self.logits, self.event_dims = logits, event_dims
        split = logits.dim() - event_dims
        super().__init__(logits.shape[:split], logits.shape[split:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """0 or 1 at each pixel."""
        return constraints.independent(constraints.boolean, self.event_dims)

    @property
    def mean(self) -> Tensor:
        """The probabilities, (*batch, *event)."""
        return self.logits.sigmoid()

    @property
    def mode(self) -> Tensor:
        """The likelier value of each pixel, (*batch, *event)."""
        return (self.logits > 0).to(self.logits.dtype)

    @property
    def variance(self) -> Tensor:
        """The variance of each pixel, (*batch, *event)."""
        return self.mean * (1.0 - self.mean)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns binary pixels, (*sample, *batch, *event)."""
        with torch.no_grad():
            return torch.bernoulli(self.mean.expand(*sample_shape, *self.logits.shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log p(value), (*batch), nats."""
        logits, target = torch.broadcast_tensors(self.logits, value.to(self.logits.dtype))
        return -sum_event(binary_cross_entropy_with_logits(logits, target, reduction="none"), self.event_dims)


class ContinuousBernoulliPixels(BernoulliPixels):
    r"""Independent continuous Bernoulli pixels in [0, 1], from logits $\eta$ (*batch, *event).

    Loaiza-Ganem and Cunningham, 2019, https://arxiv.org/abs/1907.06845: $p(x) = e^{\eta x}\,\eta / (e^\eta - 1)$, the
    Bernoulli's probability times $\eta / \tanh(\eta/2)$. From logits, without the cut-offs of torch's own class.
    """

    @property
    def support(self) -> constraints.Constraint:
        """[0, 1] at each pixel."""
        return constraints.independent(constraints.unit_interval, self.event_dims)

    def _series(self) -> tuple[Tensor, Tensor]:
        """Returns a mask of logits so small that a series is exact, and logits that are safe where it is not set."""
        small = self.logits.abs() < 0.1
        return small, torch.where(small, 1.0, self.logits)

    @property
    def mean(self) -> Tensor:
        """The mean 1/(1 - exp(-η)) - 1/η, (*batch, *event); not the probability of the Bernoulli with these logits."""
        small, safe = self._series()
        near = 0.5 + self.logits / 12.0 - self.logits**3 / 720.0
        # The hyperbolic tangent has a finite slope at any logit.
        return torch.where(small, near, 0.5 / torch.tanh(0.5 * safe) + 0.5 - 1.0 / safe)

    @property
    def variance(self) -> Tensor:
        """The variance 1/η² - 1/(4 sinh²(η/2)) of each pixel, (*batch, *event)."""
        small, safe = self._series()
        near = 1.0 / 12.0 - self.logits.square() / 240.0 + self.logits**4 / 6048.0
        far = safe**-2 - safe.sigmoid() * (-safe).sigmoid() / torch.tanh(0.5 * safe).square()
        return torch.where(small, near, far)

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns pixels in [0, 1], (*sample, *batch, *event), by the inverse of the distribution function."""
        with torch.no_grad():
            size = self.logits.abs()
            u = torch.rand(*sample_shape, *size.shape, dtype=size.dtype, device=size.device)
            near = u + 0.5 * size * u * (1.0 - u)
            value = torch.where(size < 1e-3, near, 1.0 + torch.log(u + (1.0 - u) * (-size).exp()) / size)
            return torch.where(self.logits < 0, 1.0 - value, value).clamp(0.0, 1.0)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value`, (*batch), nats; it may exceed 0."""
        small, safe = self._series()
        squared = self.logits.square()
        near = math.log(2.0) + squared / 12.0 - 7.0 * squared.square() / 1440.0
        far = torch.log(safe / torch.tanh(0.5 * safe))
        return super().log_prob(value) + sum_event(torch.where(small, near, far), self.event_dims)


def log_mass_of_level(value: Tensor, loc: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Returns the log mass of a logistic between the midpoints around each `value`; see `DiscretizedLogisticPixels`."""
    half = 0.5 / (levels - 1)
    inverse = (-log_scale).exp()
    upper = logsigmoid((value + half - loc) * inverse)
    lower = logsigmoid((loc - value + half) * inverse)
    # σ(a) - σ(b) = σ(a) σ(-b) (1 - exp(b - a)): no cancellation, however far the tails.
    inside = upper + lower + torch.log(-torch.expm1(-2.0 * half * inverse))
    return torch.where(value < half, upper, torch.where(value > 1.0 - half, lower, inside))


class DiscretizedLogisticPixels(Distribution):
    r"""A logistic, rounded to `levels` values k/(levels-1) in [0, 1]; the first and last level take the tails.

    Salimans et al., 2017, "PixelCNN++" (https://arxiv.org/abs/1701.05517). With $\delta$ half a level,
    $P(x) = \sigma((x + \delta - \mu)/s) - \sigma((x - \delta - \mu)/s)$.

    Args:
        loc: (*batch, *event), in units of x.
        log_scale: (*batch, *event), log s.
        levels: how many values a pixel can take.
        event_dims: how many trailing dimensions are the event.
    """

    arg_constraints = {"loc": constraints.real, "log_scale": constraints.real}  # noqa: RUF012  (as torch declares it)

    def __init__(self, loc: Tensor, log_scale: Tensor, levels: int, event_dims: int) -> None:
        self.loc, self.log_scale, self.levels, self.event_dims = loc, log_scale, levels, event_dims
        split = loc.dim() - event_dims
        super().__init__(loc.shape[:split], loc.shape[split:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log P(value), (*batch), nats; values between two levels count as the density of the nearest mass."""
        masses = log_mass_of_level(value, self.loc, self.log_scale, self.levels)
        return sum_event(masses, self.event_dims)

    @property
    def mean(self) -> Tensor:
        """The exact mean over the levels, (*batch, *event): the sum of P(x > level) over all levels but the last."""
        inverse, step = (-self.log_scale).exp(), 1.0 / (self.levels - 1)
        edges = (torch.arange(self.levels - 1, dtype=self.loc.dtype, device=self.loc.device) + 0.5) * step
        rows = max(1, AT_ONCE // len(edges))
        pairs = zip(*(each.reshape(-1, 1).split(rows) for each in (self.loc, inverse)), strict=True)
        total = torch.cat([((loc - edges) * scale).sigmoid().sum(-1) for loc, scale in pairs])
        return total.view_as(self.loc) * step

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns values on the levels, (*sample, *batch, *event)."""
        with torch.no_grad():
            uniform = torch.rand(*sample_shape, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
            value = self.loc + self.log_scale.exp() * torch.logit(uniform, eps=1e-7)
            return (value.clamp(0.0, 1.0) * (self.levels - 1)).round() / (self.levels - 1)
