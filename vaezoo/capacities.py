"""Objectives that hold several rates at capacities of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vaezoo.categories import SideBySide
from vaezoo.elbo import ELBO, Model, Objective, Warmup

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
        posterior, prior = cast(SideBySide, inference.posterior), cast(SideBySide, inference.prior)
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
            seen=model.observe(inference),
        )
