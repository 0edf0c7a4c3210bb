r"""Hierarchies of Gaussian levels, whose priors and posteriors are known one level at a time.

$$p(z) = \prod_l p(z_l|z_{<l}), \qquad q(z|x) = \prod_l q(z_l|x, z_{<l})$$

The levels are concatenated along the last axis of z, the top one first. A `Path` knows the priors, and leads from the
top down to what the decoder sees.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vaezoo.distributions import (
    DiagonalNormal,
    JointlyDrawn,
    StandardNormal,
    full_precision,
    kl_normal_normal,
    normal_from,
)
from vaezoo.elbo import ELBO, Inference, Model, Part, WeightedObjective
from vaezoo.errors import CompositionError
from vaezoo.likelihoods import Likelihood
from vaezoo.parts import Decoder, given, width_of

__all__ = [
    "BottomDecoder",
    "ChainPosterior",
    "Descent",
    "HierarchicalPosterior",
    "HierarchicalPrior",
    "LevelObjective",
    "MarkovPath",
    "OnPath",
    "Path",
    "PathDecoder",
    "PathPrior",
    "combine",
    "halving",
    "repeat_rows",
]


class Path(nn.Module):
    """The way from the top of a hierarchy down, level by level, for many rows at once.

    `sizes`: how many latents each level has, the top one first. What has been met on the way is the *state*, a tensor
    (rows, ...); the last state is what the decoder sees.
    """

    sizes: tuple[int, ...]

    def start(self, rows: int, c: Tensor | None) -> Tensor:
        """Returns the state above the top level; `c` (rows, context)."""
        raise NotImplementedError

    def prior(self, level: int, state: Tensor, c: Tensor | None) -> tuple[DiagonalNormal, Tensor]:
        """Returns p(z_l | what is above it), batch (rows,), and the state that a posterior may look at."""
        raise NotImplementedError

    def move(self, level: int, state: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
        """Returns the state below level l, whose latents are `z` (rows, size)."""
        raise NotImplementedError


#: z of one level (rows, size), from its number, the state and its prior
Visit = Callable[[int, Tensor, DiagonalNormal], Tensor]


def descend(path: Path, leading: Sequence[int], c: Tensor | None, visit: Visit) -> Tensor:
    """Walks from the top down with the latents that `visit` chooses, and returns the last state (*leading, ...)."""
    rows = math.prod(leading)
    c = None if c is None else c.expand(*leading, c.shape[-1]).reshape(rows, c.shape[-1])
    state = path.start(rows, c)
    for level in range(len(path.sizes)):
        prior, state = path.prior(level, state, c)
        state = path.move(level, state, visit(level, state, prior), c)
    return state.reshape(*leading, *state.shape[1:])


def levels_of(path: Path, z: Tensor) -> Sequence[Tensor]:
    """Returns z (*leading, total) as the levels (rows, size), the top one first."""
    levels: tuple[Tensor, ...] = z.reshape(-1, z.shape[-1]).split(path.sizes, -1)
    return levels


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
        descend(self.path, leading, self.c, visit)
        return torch.cat(drawn, -1).reshape(*leading, -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, *batch, total), (*sample, *batch), nats."""
        levels, found = levels_of(self.path, value), list[Tensor]()

        def visit(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
            found.append(prior.log_prob(levels[level]))
            return levels[level]

        descend(self.path, value.shape[:-1], self.c, visit)
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
        state = descend(self.path, leading, self.c, visit)
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

        descend(self.path, value.shape[:-1], self.c, visit)
        return torch.stack(found).sum(0).reshape(value.shape[:-1])

    @property
    def center(self) -> Tensor:
        """The centres from the top down, each level's given those above, (B, total)."""
        found: list[Tensor] = []

        def visit(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
            found.append(self.propose(level, state, prior).loc)
            return found[-1]

        descend(self.path, self.batch_shape, self.c, visit)
        return torch.cat(found, -1)


def repeat_rows(features: Tensor, rows: int) -> Tensor:
    """Returns features (B, ...) once for each draw, (rows, ...), in the order of (K, B)."""
    if len(features) == rows:
        return features
    return features.expand(rows // len(features), *features.shape).reshape(rows, *features.shape[1:])


def combine(one: DiagonalNormal, other: DiagonalNormal) -> DiagonalNormal:
    r"""Returns the normal that is proportional to the product of two densities: weighed by their precisions.

    $$\sigma^{-2} = \sigma_1^{-2} + \sigma_2^{-2}, \qquad \mu = \sigma^2 (\mu_1 \sigma_1^{-2} + \mu_2 \sigma_2^{-2})$$
    """
    log_scale = -0.5 * torch.logaddexp(-2.0 * one.log_scale, -2.0 * other.log_scale)
    share = (2.0 * (other.log_scale - one.log_scale)).sigmoid()
    return DiagonalNormal(torch.lerp(other.loc, one.loc, share), log_scale, one.event_dims)


class MarkovPath(Path):
    """A chain: each level depends on the one above it alone, through a network; the top one is N(0, 1).

    Args:
        sizes: of the levels, the top one first.
        networks: from each level but the last, z (rows, size) and c, to (rows, 2, next size): μ and log σ.
    """

    zeros: Tensor

    def __init__(self, sizes: Sequence[int], networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.sizes, self.networks = tuple(sizes), nn.ModuleList(networks)
        self.register_buffer("zeros", torch.zeros(sizes[0]), persistent=False)

    def start(self, rows: int, c: Tensor | None) -> Tensor:
        """Returns zeros: nothing is above the top level."""
        return self.zeros.expand(rows, -1)

    def prior(self, level: int, state: Tensor, c: Tensor | None) -> tuple[DiagonalNormal, Tensor]:
        """Returns p(z_l|z_{l-1}), and the z above."""
        if not level:
            return StandardNormal(full_precision(state), 1), state
        return normal_from(self.networks[level - 1](*given(state, c)), 1), state

    def move(self, level: int, state: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
        """Returns z."""
        return z


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


def halving(latent: Sequence[int], name: str, levels: int) -> tuple[int, ...]:
    """Returns the sizes of levels, the top one first, each about twice the one above: 124 is 4 + 8 + 16 + 32 + 64.

    Raises:
        ShapeError: `latent` is not one axis with at least one latent for each of the levels of the variant `name`.
    """
    rest, sizes = width_of(latent, name, levels), list[int]()
    for above in range(levels - 1, -1, -1):
        share = rest * 2**above // (2 ** (above + 1) - 1)
        sizes.append(min(share, rest - above))
        rest -= sizes[-1]
    return tuple(sizes[::-1])


class PathPrior(Part):
    """The prior that owns a path; encoder and decoder refer to it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns p(z), with a batch (B,) where there is a context."""
        return HierarchicalPrior(self.path, c)


class OnPath(Part):
    """A part that refers to the prior's path, which it does not own."""

    _path: tuple[Path, ...] = ()  # in a tuple, so that it is not registered

    @property
    def path(self) -> Path:
        """The path of the model that this part is in."""
        return self._path[0]

    def bind(self, model: Model) -> None:
        """Remembers the path, without registering it; raises CompositionError if the prior has none."""
        path = getattr(model.prior, "path", None)
        if not isinstance(path, Path):
            raise CompositionError(
                f"{type(self).__name__} needs the prior of its hierarchy; got {type(model.prior).__name__}, which has "
                "no levels. Leave the prior as it is."
            )
        self._path = (path,)


class PathDecoder(OnPath, Decoder):
    """A decoder of the state at the end of the prior's path; its network maps (..., *state) to (..., P, *shape)."""

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,c) with the leading dimensions of z (..., total) as batch."""
        levels = levels_of(self.path, z)
        return self.read(descend(self.path, z.shape[:-1], c, lambda level, state, prior: levels[level]), c)

    def read(self, state: Tensor, c: Tensor | None) -> Distribution:
        """Returns p(x|z,c) from the last state (..., *state)."""
        return super().forward(state, c)


class BottomDecoder(Decoder):
    """A decoder that sees the lowest level alone, the last `size` latents; its network maps (..., size)."""

    def __init__(self, network: nn.Module, likelihood: Likelihood, size: int) -> None:
        super().__init__(network, likelihood)
        self.size = size

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,c) with the leading dimensions of z (..., total) as batch."""
        return super().forward(z[..., -self.size :], c)

    def read(self, state: Tensor, c: Tensor | None) -> Distribution:
        """Returns p(x|z,c) from the lowest level (..., size), where a `MarkovPath` ends."""
        return super().forward(state, c)


class LevelObjective(WeightedObjective):
    r"""Minimises $D + \beta(t) \sum_l \max(R_l, \lambda)$: free nats for each level, not for all together.

    The model has a `HierarchicalPosterior`; the pass walks down once, for posterior, prior and a decoder that can read
    the state where its path ends.

    Raises:
        CompositionError: in a pass, if the posterior is none of a hierarchy.
    """

    def forward(self, model: Model, x: Tensor, c: Tensor | None = None, step: Tensor | None = None) -> ELBO:
        """Returns the ELBO with the terms `rate_1`, `rate_2`, …, the top level's first."""
        posterior = model.encoder(x, c)
        if not isinstance(posterior, HierarchicalPosterior):
            raise CompositionError(
                f"Got a posterior of type {type(posterior).__name__}; the rates of levels need that of a hierarchy, "
                "such as ladder-vae's. Take another objective, or leave the encoder as it is."
            )
        walk = posterior.descend((self.samples,))
        read = getattr(model.decoder, "read", None)  # it saves a second walk
        likelihood: Distribution = model.decoder(walk.z, c) if read is None else read(walk.state, c)
        inference = Inference(
            x=x, z=walk.z, log_q=walk.log_q, posterior=posterior, prior=model.prior(c), likelihood=likelihood
        )
        distortion, rates = inference.distortion(), walk.rates.mean(0)
        rate = rates.sum(-1)
        return ELBO(
            distortion=distortion,
            rate=rate,
            bound=self.bound_of(inference, distortion, rate),
            losses={"model": distortion + self.penalty(rates, step).sum(-1)},
            terms={f"rate_{level}": each for level, each in enumerate(rates.detach().unbind(-1), 1)},
            seen=model.observe(inference),
        )
