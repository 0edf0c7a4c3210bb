"""Objectives with constraints: rates at given capacities, and a distortion at a given target."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from vaezoo.core import ELBO, Inference, Model
from vaezoo.distributions import ProductDistribution
from vaezoo.errors import warn
from vaezoo.objectives.schedules import Schedule
from vaezoo.objectives.weighted import PenalizedObjective

AVERAGE_DECAY = 0.99  # of the running mean of the constraint, as in the paper
LARGEST_LOG_MULTIPLIER = 15.0  # so that the multiplier of an unreachable target stays finite
CHECK_EVERY = 100  # updates


class TwoCapacitiesObjective(PenalizedObjective):
    r"""The objective $D + \gamma |R_z - C_z(t)| + \gamma |R_c - C_c(t)|$ of Gaussian and categorical latents.

    Dupont, 2018, https://arxiv.org/abs/1804.00104.

    Args:
        gamma: $\gamma \ge 0$.
        capacities: $C_z$ and $C_c$, nats per example.
    """

    def __init__(self, gamma: float, capacities: Sequence[Schedule]) -> None:
        super().__init__()
        self.gamma = gamma
        self.capacities = nn.ModuleList(capacities)

    def trains_prior(self) -> bool:
        """Returns whether the rates have a weight."""
        return self.gamma != 0.0

    def report(self, model: Model, inference: Inference, step: Tensor | None) -> ELBO:
        """Returns the ELBO with the terms `rate_continuous` and `rate_discrete`, whose sum is the rate."""
        elbo, posterior = super().report(model, inference, step), cast(ProductDistribution, inference.posterior)
        continuous, *others = posterior.divergences(cast(ProductDistribution, inference.prior))
        rates = {"continuous": continuous, "discrete": torch.stack(others).sum(0)}
        pairs = zip(rates.values(), self.capacities, strict=True)
        gaps = [(each - capacity(step)).abs() for each, capacity in pairs]
        loss = elbo.distortion + self.gamma * (gaps[0] + gaps[1]) if self.gamma else elbo.distortion
        terms = {f"rate_{name}": each.detach() for name, each in rates.items()}
        return replace(elbo, losses={**elbo.losses, "model": loss}, terms=terms)


class ConstraintObjective(PenalizedObjective):
    r"""The objective $R + \lambda\,(D - D^*)$, with a multiplier that is updated after each step.

    $\log \lambda$ rises by `speed` times the running mean of $D - D^*$ (GECO; Rezende & Viola, 2018,
    https://arxiv.org/abs/1810.00597).

    Args:
        target: $D^*$, nats per example.
        speed: learning rate of $\log \lambda$.
    """

    gap: Tensor
    log_multiplier: Tensor
    updates: Tensor

    def __init__(self, target: float, speed: float) -> None:
        super().__init__()
        self.target, self.speed = target, speed
        self._checked = 0  # updates since the last comparison with the limit, which waits for the device
        self._warned = False
        for name in ("gap", "log_multiplier", "updates"):
            self.register_buffer(name, torch.zeros(()))

    def trains_prior(self) -> bool:
        """Returns True: the loss has the rate."""
        return True

    def cost(self, distortion: Tensor, rate: Tensor, step: Tensor | None) -> Tensor:
        """Returns R + λ·(D - target), (B,)."""
        return rate + self.log_multiplier.exp() * (distortion - self.target)

    def report(self, model: Model, inference: Inference, step: Tensor | None) -> ELBO:
        """Returns the ELBO with the term `gap`, D - target."""
        elbo = super().report(model, inference, step)
        gap = elbo.distortion.detach() - self.target
        learns = self.training and any(self.players(model).values())
        statistics = {**elbo.statistics, "objective.gap": gap.mean()} if learns else elbo.statistics
        return replace(elbo, terms={"gap": gap}, statistics=statistics)

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Updates the multiplier; the running mean starts at the first gap."""
        gap = torch.stack([each["gap"] for each in statistics]).mean().to(self.gap.dtype)
        self.gap.lerp_(gap, torch.where(self.updates > 0, 1.0 - AVERAGE_DECAY, 1.0).to(gap.dtype))
        self.updates.fill_(1.0)
        self.log_multiplier.add_(self.speed * self.gap).clamp_(-LARGEST_LOG_MULTIPLIER, LARGEST_LOG_MULTIPLIER)
        self._checked += 1
        if self._checked % CHECK_EVERY == 0 and not self._warned:
            self._warn_at_limit()

    def begin_stage(self, trained: bool) -> None:
        """Warns at the end of a stage too if the multiplier is at its limit."""
        if not self._warned:
            self._warn_at_limit()

    def _warn_at_limit(self) -> None:
        """Warns once if the multiplier is at its limit, where the constraint does not control the loss any more."""
        value = self.log_multiplier.item()
        if abs(value) < LARGEST_LOG_MULTIPLIER:
            return
        self._warned, gap = True, self.gap.item()
        side, other = ("above", "raise") if gap > 0 else ("below", "lower")
        warn(
            f"The multiplier of the distortion is at its limit, exp({value:g}): the distortion is {abs(gap):.4g} nats "
            f"{side} the target of {self.target:g}, which training does not reach at this speed. Either {other} the "
            f"target, or choose a lower speed than {self.speed:g}."
        )
