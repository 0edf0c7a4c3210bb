"""Gaussian pixels or features."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import Inference
from vaezoo.distributions import DiagonalNormal, normal_from
from vaezoo.likelihoods import Likelihood

MEMORY = 100  # optimizer steps that the running error of an optimal scale averages over


class Gaussian(Likelihood):
    r"""$\mathcal{N}(x; \mu(z), \sigma^2)$, for any real data.

    Args:
        shape: the event shape of x.
        scale: $\sigma > 0$; the initial value for "learned" and "optimal".
        scale_kind: "fixed"; "learned", an output of the decoder per element; "optimal", one number for all, kept at the
            running root-mean-square error, the value that maximizes the likelihood (Rybkin et al., 2021,
            https://arxiv.org/abs/2006.13202). Under an importance-weighted objective the error of each draw has the
            weight of that draw, which maximizes that bound.
    """

    log_scale: Tensor
    updates: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        scale: Annotated[float, Meta(ge=1e-6, le=1e6)] = 1.0,
        scale_kind: Literal["fixed", "learned", "optimal"] = "fixed",
    ) -> None:
        super().__init__(shape)
        self.learned, self.optimal = scale_kind == "learned", scale_kind == "optimal"
        self.outputs = 2 if self.learned else 1
        self.start = math.log(scale)
        # A fixed scale is in the config, exact in any precision; only a running scale is learned state.
        self.register_buffer("log_scale", torch.tensor(self.start), persistent=self.optimal)
        self.register_buffer("updates", torch.tensor(0.0), persistent=self.optimal)

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for means (..., 1, *shape), or means and log scales (..., 2, *shape)."""
        if self.learned:
            return normal_from(raw, len(self.shape), self.start)
        loc = raw.squeeze(-1 - len(self.shape))
        log_scale = self.log_scale.to(loc.dtype) if self.optimal else loc.new_full((), self.start)
        return DiagonalNormal(loc, log_scale.expand_as(loc), len(self.shape))

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns the data's mean (P, *shape), with log scales of 0 above the configured start."""
        return torch.stack([mean, torch.zeros_like(mean)][: self.outputs])

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns the mean squared error of this pass, 0-dim, for an optimal scale; draws count by their weights."""
        if not self.optimal:
            return {}
        errors = (inference.likelihood.mean.detach() - inference.x).square()
        if inference.weights is None:
            return {"squared_error": errors.mean()}
        return {"squared_error": (inference.weights * errors.flatten(2).mean(2)).sum(0).mean()}

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Updates an optimal scale towards the root-mean-square error of the step."""
        if not self.optimal:
            return
        error = torch.stack([each["squared_error"] for each in statistics]).mean().to(self.log_scale.dtype)
        self.updates += 1
        share = (1.0 / self.updates).clamp(min=1.0 / MEMORY)
        variance = torch.lerp((2.0 * self.log_scale).exp(), error.clamp(min=1e-12), share)
        self.log_scale.copy_(0.5 * variance.log())
