"""Distributions over all levels of a hierarchy, known one level at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaezoo.distributions.joint_sampling import JointlyDrawn
from vaezoo.distributions.normal import DiagonalNormal, kl_normal_normal
from vaezoo.hierarchy.path import Path, levels_of, run_top_down

__all__ = ["ChainPosterior", "Descent", "HierarchicalPosterior", "HierarchicalPrior"]


class HierarchicalPrior(Distribution):
    """p(z) of a path.

    Args:
        path: the levels.
        c: the context (B, context), None without one; then there is no batch dimension.
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)
    support = cast(constraints.Constraint, constraints.real_vector)

    def __init__(self, path: Path, c: Tensor | None = None) -> None:
        self.path, self.c = path, c
        batch = torch.Size() if c is None else c.shape[:1]
        super().__init__(batch, torch.Size([sum(path.sizes)]), validate_args=False)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns z (*sample, *batch, total), drawn from the top down."""
        drawn: list[Tensor] = []

        def visit(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
            drawn.append(prior.rsample())
            return drawn[-1]

        leading = (*sample_shape, *self.batch_shape)
        run_top_down(self.path, leading, self.c, visit)
        return torch.cat(drawn, -1).reshape(*leading, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, *batch, total), (*sample, *batch), nats."""
        levels, found = levels_of(self.path, value), list[Tensor]()

        def visit(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
            found.append(prior.log_prob(levels[level]))
            return levels[level]

        run_top_down(self.path, value.shape[:-1], self.c, visit)
        return torch.stack(found).sum(0).reshape(value.shape[:-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Descent:
    """One walk down with draws of the posterior.

    `z` (*sample, B, total); `log_q` (*sample, B), nats; `rates` (*sample, B, L): KL(q(z_l|x, z_<l) || p(z_l|z_<l)) at
    the z above, in closed form, whose mean over draws is each level's share of the rate; `state` (*sample, B, ...).
    """

    z: Tensor
    log_q: Tensor
    rates: Tensor
    state: Tensor


class HierarchicalPosterior(JointlyDrawn):
    """q(z|x) from the top down: each level's is told the state and the prior that the levels above lead to.

    Args:
        path: the levels.
        propose: returns q(z_l|x, z_<l), batch (rows,), from the level's number, the state and its prior; the rows are
            the B examples, repeated as often as need be (`repeat_rows`).
        batch: B.
        c: the context (B, context), None without one.
    """

    def __init__(
        self,
        path: Path,
        propose: Callable[[int, Tensor, DiagonalNormal], DiagonalNormal],
        batch: int,
        c: Tensor | None = None,
    ) -> None:
        self.path, self.propose, self.c = path, propose, c
        super().__init__((batch,), (sum(path.sizes),))

    @property
    def support(self) -> constraints.Constraint:
        """The whole space."""
        return cast(constraints.Constraint, constraints.real_vector)

    def descend(self, sample_shape: Sequence[int] = ()) -> Descent:
        """Returns a walk down with draws: their density, the rate of each level and where they lead, in one pass."""
        drawn, densities, rates = list[Tensor](), list[Tensor](), list[Tensor]()

        def visit(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
            posterior = self.propose(level, state, prior)
            z, log_q = posterior.rsample_and_log_prob()
            drawn.append(z)
            densities.append(log_q)
            rates.append(kl_normal_normal(posterior, prior))
            return z

        leading = (*sample_shape, *self.batch_shape)
        state = run_top_down(self.path, leading, self.c, visit)
        return Descent(
            z=torch.cat(drawn, -1).reshape(*leading, -1),
            log_q=torch.stack(densities).sum(0).reshape(leading),
            rates=torch.stack(rates, -1).reshape(*leading, -1),
            state=state,
        )

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, B, total) and its log density (*sample, B), nats."""
        walk = self.descend(sample_shape)
        return walk.z, walk.log_q

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, B, total), (*sample, B), nats."""
        levels, found = levels_of(self.path, value), list[Tensor]()

        def visit(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
            found.append(self.propose(level, state, prior).log_prob(levels[level]))
            return levels[level]

        run_top_down(self.path, value.shape[:-1], self.c, visit)
        return torch.stack(found).sum(0).reshape(value.shape[:-1])

    @property
    def center(self) -> Tensor:
        """The centres from the top down, each level's given those above, (B, total)."""
        found: list[Tensor] = []

        def visit(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
            found.append(self.propose(level, state, prior).loc)
            return found[-1]

        run_top_down(self.path, self.batch_shape, self.c, visit)
        return torch.cat(found, -1)


class ChainPosterior(JointlyDrawn):
    """q(z|x) of two levels from the bottom up: q(z_2|x) q(z_1|z_2), with z_1 the upper one.

    Args:
        lower: q(z_2|x), batch (B,).
        above: returns q(z_1|z_2) from z_2 (*sample, B, size).
    """

    def __init__(self, lower: DiagonalNormal, above: Callable[[Tensor], DiagonalNormal]) -> None:
        self.lower, self.above = lower, above
        self.upper_size = above(lower.loc).event_shape[0]
        super().__init__(lower.batch_shape, (self.upper_size + lower.event_shape[0],))

    @property
    def support(self) -> constraints.Constraint:
        """The whole space."""
        return cast(constraints.Constraint, constraints.real_vector)

    @property
    def center(self) -> Tensor:
        """The mean of the lower level and what it leads to above, (B, total)."""
        return torch.cat([self.above(self.lower.loc).loc, self.lower.loc], -1)

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, B, total) and its log density (*sample, B), nats."""
        low, log_low = self.lower.rsample_and_log_prob(sample_shape)
        high, log_high = self.above(low).rsample_and_log_prob()
        return torch.cat([high, low], -1), log_low + log_high

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, B, total), (*sample, B), nats."""
        high, low = value[..., : self.upper_size], value[..., self.upper_size :]
        return self.lower.log_prob(low) + self.above(low).log_prob(high)
