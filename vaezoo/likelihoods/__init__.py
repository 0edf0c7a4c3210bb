"""Likelihoods p(x|z): heads that turn a network's raw output (..., P, *shape) into a distribution with event `shape`.

One file each, found by its name. A head declares how many raw numbers it needs per element of x (`outputs`), whether
it gives probability masses or densities (`mass`), which values have one (`contains`) and which are valid as a training
loss (`accepts`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import LARGEST_VALUE, Inference, Likelihood
from vaezoo.distributions import LOG_SCALE_LIMIT, DiagonalLaplace, DiagonalNormal, ObservedElements
from vaezoo.distributions.normal import location_and_scale

__all__ = ["LevelsLikelihood", "Likelihood", "ScaleKind", "ScaledLikelihood", "UnitLikelihood"]

ScaleKind = Literal["fixed", "learned", "optimal"]

LEAST_ERROR = 1e-12  # mean error that an optimal scale follows
SHARE = "observed"  # name of the share of observed elements among the statistics of a step
MEMORY = 100  # optimizer steps that the running error of an optimal scale averages over


class UnitLikelihood(Likelihood):
    """The head of a decoder for values in [0, 1]."""

    domain = support = "values in [0, 1]"

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values lie in [0, 1]; NaN does not."""
        return ((x >= 0) & (x <= 1)).flatten(1).all(1)


class LevelsLikelihood(UnitLikelihood):
    """The head of a decoder that gives probability masses to values k/(levels-1) in [0, 1].

    Args:
        shape: the event shape of x.
        levels: how many values a pixel can take, 256 for 8 bits.
    """

    mass = True
    remedy = (
        "pass 8-bit images as uint8, or floating ones of float32 on these levels; or choose a likelihood for other "
        "values, such as gaussian (architecture.likelihood)"
    )

    def __init__(self, shape: Sequence[int], levels: int) -> None:
        super().__init__(shape)
        self.levels = levels
        self.support = f"multiples of 1/{levels - 1} in [0, 1]"

    def contains(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values lie on the levels."""
        scaled = x * (self.levels - 1)
        rounding = 1e-3 + self.levels * torch.finfo(torch.float32).eps  # of k/(levels-1) in float32
        return self.accepts(x) & ((scaled - scaled.round()).abs() < rounding).flatten(1).all(1)


class ScaledLikelihood(Likelihood):
    """The head of a decoder with a location and a scale: fixed, learned per element, or optimal.

    An optimal scale is one number for all elements, kept at the running mean of |x - location|^`power`, to the power of
    1/`power`; for the density of a subclass this maximizes the likelihood.

    Args:
        shape: the event shape of x.
        scale: the scale; the initial value for "learned" and "optimal".
        scale_kind: "fixed", "learned" or "optimal".
        gaps: whether x may have gaps, marked by NaN, such as the padded ends of series: log p(x|z) is then that of the
            observed elements, and the encoder receives 0 in place of gaps, and the mask of the observed elements.
    """

    #: exponent of the error whose mean an optimal scale follows
    power = 2
    #: name of this error among the statistics of a step
    error = "squared_error"

    log_scale: Tensor
    updates: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        scale: Annotated[float, Meta(ge=1e-6, le=1e6)] = 1.0,
        scale_kind: ScaleKind = "fixed",
        gaps: bool = False,
    ) -> None:
        super().__init__(shape)
        self.gaps = gaps
        if gaps:
            self.domain = self.support = f"{self.domain}, or NaN for a gap"
        self.learned, self.optimal = scale_kind == "learned", scale_kind == "optimal"
        self.outputs = 2 if self.learned else 1
        self.start = math.log(scale)
        # A fixed scale is in the config, exact in any precision; only a running scale is learned state.
        self.register_buffer("log_scale", torch.tensor(self.start), persistent=self.optimal)
        self.register_buffer("updates", torch.tensor(0.0), persistent=self.optimal)

    @property
    def least_log_scale(self) -> float | None:
        """The lower limit of a scale that is not fixed, log; None for a fixed one."""
        if self.optimal:
            return math.log(LEAST_ERROR) / self.power
        return -LOG_SCALE_LIMIT if self.learned else None

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for locations (..., 1, *shape), or locations and log scales (..., 2, *shape)."""
        if self.learned:
            loc, log_scale = location_and_scale(raw, len(self.shape), self.start)
        else:
            loc = raw.squeeze(-1 - len(self.shape))
            log_scale = self.log_scale.to(loc.dtype) if self.optimal else loc.new_full((), self.start)
        found = self.distribution(loc, log_scale.expand_as(loc), 0 if self.gaps else len(self.shape))
        return ObservedElements(found, len(self.shape)) if self.gaps else found

    def distribution(self, loc: Tensor, log_scale: Tensor, event_dims: int) -> DiagonalNormal | DiagonalLaplace:
        """Returns p(x|z) for locations and log scales (*batch, *shape), whose last `event_dims` axes are the event."""
        raise NotImplementedError

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values may be trained on; NaN only if it marks gaps."""
        good = x.abs() <= LARGEST_VALUE
        return (good | x.isnan() if self.gaps else good).flatten(1).all(1)

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns the data's mean (P, *shape), with log scales of 0 above the configured start."""
        return torch.stack([mean, torch.zeros_like(mean)][: self.outputs])

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns the mean error of this pass, 0-dim, for an optimal scale; draws count by their weights.

        With gaps, the mean is over all elements with an error of 0 at gaps, beside the share of observed elements.
        """
        if not self.optimal:
            return {}
        errors, found = (inference.likelihood.mean.detach() - inference.x).abs().pow(self.power), dict[str, Tensor]()
        if self.gaps:
            known = ~inference.x.isnan()
            errors, found = torch.where(known, errors, 0.0), {SHARE: known.to(errors.dtype).mean()}
        if inference.weights is None:
            return {self.error: errors.mean(), **found}
        return {self.error: (inference.weights * errors.flatten(2).mean(2)).sum(0).mean(), **found}

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Updates an optimal scale towards that of the step."""
        if not self.optimal:
            return
        error = torch.stack([each[self.error] for each in statistics]).mean().to(self.log_scale.dtype)
        if self.gaps:
            error = error / torch.stack([each[SHARE] for each in statistics]).mean().to(error.dtype)
        self.updates += 1
        share = (1.0 / self.updates).clamp(min=1.0 / MEMORY)
        mean = torch.lerp((self.power * self.log_scale).exp(), error.clamp(min=LEAST_ERROR), share)
        self.log_scale.copy_(mean.log() / self.power)
