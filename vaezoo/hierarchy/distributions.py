"""Distributions over all levels of a hierarchy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from vaezoo.core import as_built
from vaezoo.distributions import DiagonalNormal, JointlyDrawn, kl_normal_normal
from vaezoo.hierarchy.path import Choose, Path, levels_of, run_top_down

#: returns the distribution of one level, batch (rows,), for its number, the state and its prior
Propose = Callable[[int, Tensor, DiagonalNormal], DiagonalNormal]


def _choose_all(path: Path, leading: Sequence[int], c: Tensor | None, choose: Choose) -> Tensor:
    """Returns z (*leading, total), the levels that `choose` returns."""
    chosen: list[Tensor] = []

    def kept(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
        chosen.append(choose(level, state, prior))
        return chosen[-1]

    run_top_down(path, leading, c, kept)
    return torch.cat(chosen, -1).reshape(*leading, -1)


def _log_density(path: Path, z: Tensor, c: Tensor | None, propose: Propose) -> Tensor:
    """Returns the log density (*leading) of z (*leading, total) under the distributions that `propose` returns."""
    levels = levels_of(path, z)
    found: list[Tensor] = []  # torch.compile cannot trace list[Tensor]()

    def given(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
        found.append(propose(level, state, prior).log_prob(levels[level]))
        return levels[level]

    run_top_down(path, z.shape[:-1], c, given)
    return torch.stack(found).sum(0).reshape(z.shape[:-1])


class HierarchicalPrior(Distribution):
    """The prior p(z|c) of a path.

    Args:
        path: the path.
        c: (B, context), which gives the batch shape (B,), or None.
        temperature: factor of each level's standard deviations.
    """

    arg_constraints = {}  # noqa: RUF012  (torch declares it as a plain class attribute)
    support = cast(constraints.Constraint, constraints.real_vector)

    def __init__(self, path: Path, c: Tensor | None = None, temperature: float = 1.0) -> None:
        self.path, self.c, self.temperature = path, c, temperature
        batch = torch.Size() if c is None else c.shape[:1]
        super().__init__(batch, torch.Size([sum(path.sizes)]), validate_args=False)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns z (*sample, *batch, total)."""
        leading = (*sample_shape, *self.batch_shape)
        return _choose_all(self.path, leading, self.c, lambda *level: self._at_level(*level).rsample())

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, *batch, total), (*sample, *batch), nats."""
        return _log_density(self.path, value, self.c, self._at_level)

    def tempered(self, temperature: float) -> "HierarchicalPrior":
        """Returns the prior with each level's standard deviations multiplied by `temperature`."""
        return HierarchicalPrior(self.path, self.c, temperature * self.temperature)

    def _at_level(self, level: int, state: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
        return prior if self.temperature == 1.0 else prior.tempered(self.temperature)


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelSamples:
    """Draws of a hierarchical posterior.

    `z` (*sample, B, total); `log_q` (*sample, B), nats; `rates` (*sample, B, L), the divergences
    KL(q(z_l|x, z_<l) || p(z_l|z_<l)) in closed form; `state` (*sample, B, ...), the last state of the path.
    """

    z: Tensor
    log_q: Tensor
    rates: Tensor
    state: Tensor


class HierarchicalPosterior(JointlyDrawn):
    """A posterior q(z|x) with the order of the prior: each level depends on the levels above.

    Args:
        path: the path of the prior.
        propose: returns q(z_l|x, z_<l), batch (rows,), for the number, the state and the prior of a level; the rows
            are the B examples, repeated by `repeat_rows`.
        batch: B.
        c: (B, context), or None.
    """

    support = cast(constraints.Constraint, constraints.real_vector)

    def __init__(self, path: Path, propose: Propose, batch: int, c: Tensor | None = None) -> None:
        self.path, self.propose, self.c = path, propose, c
        super().__init__((batch,), (sum(path.sizes),))

    @as_built
    def sample_levels(self, sample_shape: Sequence[int] = ()) -> LevelSamples:
        """Returns draws with their log density, the rate of each level and the last state, in one top-down pass."""
        drawn: list[Tensor] = []
        densities: list[Tensor] = []
        rates: list[Tensor] = []

        def choose(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
            posterior = self.propose(level, state, prior)
            z, log_q = posterior.rsample_and_log_prob()
            drawn.append(z)
            densities.append(log_q)
            rates.append(kl_normal_normal(posterior, prior))
            return z

        leading = (*sample_shape, *self.batch_shape)
        state = run_top_down(self.path, leading, self.c, choose)
        return LevelSamples(
            z=torch.cat(drawn, -1).reshape(*leading, -1),
            log_q=torch.stack(densities).sum(0).reshape(leading),
            rates=torch.stack(rates, -1).reshape(*leading, -1),
            state=state,
        )

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, B, total) and its log density (*sample, B), nats."""
        drawn = self.sample_levels(sample_shape)
        return drawn.z, drawn.log_q

    @as_built
    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, B, total), (*sample, B), nats."""
        return _log_density(self.path, value, self.c, self.propose)

    @property
    @as_built
    def center(self) -> Tensor:
        """The mean of each level given the means above, (B, total)."""
        return _choose_all(self.path, self.batch_shape, self.c, lambda *level: self.propose(*level).loc)


class ChainPosterior(JointlyDrawn):
    """A bottom-up posterior of two levels, q(z_2|x) q(z_1|z_2), where z_1 is the upper level.

    Args:
        lower: q(z_2|x), batch (B,).
        above: returns q(z_1|z_2) for z_2 (*sample, B, size).
    """

    support = cast(constraints.Constraint, constraints.real_vector)

    def __init__(self, lower: DiagonalNormal, above: Callable[[Tensor], DiagonalNormal]) -> None:
        self.lower, self.above = lower, above
        self.upper_size = above(lower.loc).event_shape[0]
        super().__init__(lower.batch_shape, (self.upper_size + lower.event_shape[0],))

    @property
    @as_built
    def center(self) -> Tensor:
        """The mean of the lower level, and of the upper level given it, (B, total)."""
        return torch.cat([self.above(self.lower.loc).loc, self.lower.loc], -1)

    @as_built
    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, B, total) and its log density (*sample, B), nats."""
        low, log_low = self.lower.rsample_and_log_prob(sample_shape)
        high, log_high = self.above(low).rsample_and_log_prob()
        return torch.cat([high, low], -1), log_low + log_high

    @as_built
    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, B, total), (*sample, B), nats."""
        high, low = value[..., : self.upper_size], value[..., self.upper_size :]
        return self.lower.log_prob(low) + self.above(low).log_prob(high)
