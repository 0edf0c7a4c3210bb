"""Objectives that hold several rates at capacities of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from vaezoo.core import ELBO, Inference, Model, Objective
from vaezoo.distributions import ProductDistribution
from vaezoo.objectives.schedules import Warmup
from vaezoo.objectives.weighted import PenalizedObjective

__all__ = ["TwoCapacities"]


class TwoCapacities(Objective):
    r"""Minimises $D + \gamma |R_z - C_z(t)| + \gamma |R_c - C_c(t)|$ of normal latents and categories side by side.

    Args:
        gamma: $\gamma \ge 0$.
        capacities: what $C_z$ and $C_c$ rise to, nats per example.
        steps: in how many steps.
    """

    def __init__(self, gamma: float, capacities: Sequence[float], steps: int) -> None:
        super().__init__()
        self.gamma = gamma
        self.capacities = nn.ModuleList(Warmup(each, steps) for each in capacities)

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO with the terms `rate_continuous` and `rate_discrete`, whose sum is the rate."""
        inference = model.infer(x, c)
        posterior, prior = cast(ProductDistribution, inference.posterior), cast(ProductDistribution, inference.prior)
        continuous, *others = posterior.divergences(prior)
        rates = {"continuous": continuous, "discrete": torch.stack(others).sum(0)}
        distortion, rate = inference.distortion(), continuous + rates["discrete"]
        pairs = zip(rates.values(), self.capacities, strict=True)
        gaps = [(each - capacity(step)).abs() for each, capacity in pairs]
        return ELBO(
            distortion=distortion,
            rate=rate,
            bound=self.bound_of(inference, distortion, rate),
            losses={"model": distortion + self.gamma * (gaps[0] + gaps[1]) if self.gamma else distortion},
            terms={f"rate_{name}": each.detach() for name, each in rates.items()},
            statistics=model.observe(inference),
        )


MEMORY = 0.99  # of the running mean of the constraint, as in the paper
LIMIT = 15.0  # of |log λ|: an unreachable target stays a number


class ConstraintObjective(PenalizedObjective):
    """Minimises R + λ·(D - target); λ follows the running mean of D - target, after each step."""

    gap: Tensor
    log_multiplier: Tensor
    updates: Tensor

    def __init__(self, target: float, speed: float) -> None:
        super().__init__()
        self.target, self.speed = target, speed
        for name in ("gap", "log_multiplier", "updates"):
            self.register_buffer(name, torch.zeros(()))

    def cost(self, distortion: Tensor, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns R + λ·(D - target), (B,)."""
        return rate + self.log_multiplier.exp() * (distortion - self.target)

    def report(self, model: Model, inference: Inference, step: Tensor | None) -> ELBO:
        """Returns the ELBO with the term `gap`, D - target."""
        elbo = super().report(model, inference, step)
        gap = elbo.distortion.detach() - self.target
        learns = self.training and any(self.players(model).values())
        seen = {**elbo.statistics, "objective.gap": gap.mean()} if learns else elbo.statistics
        return replace(elbo, terms={"gap": gap}, statistics=seen)

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Moves the multiplier; the running mean starts at the first gap."""
        gap = torch.stack([each["gap"] for each in statistics]).mean().to(self.gap.dtype)
        self.gap.lerp_(gap, torch.where(self.updates > 0, 1.0 - MEMORY, 1.0).to(gap.dtype))
        self.updates.fill_(1.0)
        self.log_multiplier.add_(self.speed * self.gap).clamp_(-LIMIT, LIMIT)
