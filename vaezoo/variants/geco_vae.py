"""The VAE under a constraint: the smallest rate at a given distortion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from vaezoo.elbo import ELBO, Inference, Model, PenalizedObjective
from vaezoo.model import VAE
from vaezoo.registry import Architecture, register

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
        seen = {**elbo.seen, "objective.gap": gap.mean()} if learns else elbo.seen
        return replace(elbo, terms={"gap": gap}, seen=seen)

    def after_step(self, seen: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Moves the multiplier; the running mean starts at the first gap."""
        gap = torch.stack([each["gap"] for each in seen]).mean().to(self.gap.dtype)
        self.gap.lerp_(gap, torch.where(self.updates > 0, 1.0 - MEMORY, 1.0).to(gap.dtype))
        self.updates.fill_(1.0)
        self.log_multiplier.add_(self.speed * self.gap).clamp_(-LIMIT, LIMIT)


@register("geco-vae", changes="objective", year=2018, paper="Rezende & Viola", url="https://arxiv.org/abs/1810.00597")
def geco_vae(
    base: VAE,
    architecture: Architecture,
    *,
    target: Annotated[float, Meta(ge=-1e9, le=1e9)] = 80.0,
    speed: Annotated[float, Meta(gt=0, le=1)] = 1e-3,
) -> VAE:
    r"""Minimises $R$ subject to $D \le D_{target}$, by a multiplier that follows the constraint.

    $$R + \lambda\,(D - D_{target}), \qquad \lambda \leftarrow \lambda\,e^{\nu\,\overline{D - D_{target}}}$$

    Hyperparameters:
        target: $D_{target}$, in nats per example. The paper bounds a squared error, which is the distortion of Gaussian
            pixels of a fixed σ, but for scale and a constant.
        speed: $\nu > 0$, how fast $\log \lambda$ moves, for each nat that the running mean of D is from the target.

    The rate is in closed form; the bound does not see $\lambda$. When to use it: where the quality of reconstructions
    is given and the price of the rate is not. It is confused with `annealed-vae`, which fixes the rate, and with
    `beta-vae`, which fixes the price. With a target that no decoder reaches $\lambda$ grows up to a limit.
    """
    return base.replace(objective=ConstraintObjective(target, speed))
