r"""Latents as symbols: on a grid of step 1/128 for numbers, indices for categories and codes.

`draw` pops z from the stack with the probabilities of q(z|x) and `undraw` pushes it back; `push` and `pop` use those of
p(z). A mixture p(z) is coded with its component: popped with p(component|z), pushed with the weights, so that the cost
is that of $-\log p(z)$.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import VAE, is_deterministic
from vaezoo.distributions import DiagonalNormal, Mixture, OneHotCategoricals, ProductDistribution
from vaezoo.errors import CompositionError, SupportError
from vaezoo.hierarchy.distributions import ChainPosterior, HierarchicalPosterior, HierarchicalPrior
from vaezoo.hierarchy.path import Path, levels_of, run_top_down
from vaezoo.quantization import CodePoint, CodeSource
from vaezoo.quantization.codes import UniformCodes
from vaezoo.storage.compression.stack import BitStack, Masses, normal, table, uniform

STEP: Final = 1 / 128
LARGEST: Final = 2**14 - 1  # in steps: latents are within ±128
WINDOW: Final = 127  # in cells, on each side of the mean of a posterior
CELLS: Final = 8  # of a window in each standard deviation, up to twice as many
MOST_CODES: Final = 2**24  # the coder's precision
Propose = Callable[[int, Tensor, DiagonalNormal], DiagonalNormal]


def in_steps(distribution: DiagonalNormal) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of each latent in steps of the grid, (N,)."""
    scale = distribution.log_scale.double().exp() / STEP
    return distribution.loc.flatten().double() / STEP, scale.flatten().clamp(1e-3, 2.0**20)


@dataclass(frozen=True)
class PriorGrid:
    """The masses of normals on the whole grid; the coder gives a mass of 2⁻²⁴ at least to each of its points."""

    masses: Masses

    @classmethod
    def of(cls, distribution: DiagonalNormal) -> "PriorGrid":
        """Returns the masses of a diagonal normal with a batch of one."""
        return cls(normal(*in_steps(distribution), LARGEST))

    def pop(self, stack: BitStack) -> Tensor:
        """Returns points of the grid, (N,)."""
        return stack.pop(self.masses)

    def push(self, stack: BitStack, points: Tensor) -> None:
        """Pushes points of the grid, (N,)."""
        stack.push(points, self.masses)


@dataclass(frozen=True)
class PosteriorGrid:
    """The masses of normals on cells of the grid around their means.

    A cell is 2^k points wide, an eighth to a sixteenth of a standard deviation if that is more than a point; its points
    are equally probable. Points far from the mean, which the smallest mass of the coder would permit, are not drawn.
    """

    base: Tensor
    width: Tensor
    masses: Masses

    @classmethod
    def of(cls, distribution: DiagonalNormal) -> "PosteriorGrid":
        """Returns the masses of a diagonal normal with a batch of one."""
        loc, scale = in_steps(distribution)
        width = 2.0 ** (scale / CELLS).log2().floor().clamp(min=0)
        base = (loc / width).round()
        return cls(base.long(), width.long(), normal(loc / width - base, scale / width, WINDOW))

    def pop(self, stack: BitStack) -> Tensor:
        """Returns points of the grid, (N,)."""
        points = (self.base + stack.pop(self.masses)) * self.width
        wide = self.width > 1
        points[wide] += stack.pop(uniform(self.width[wide])) - self.width[wide] // 2
        return points

    def push(self, stack: BitStack, points: Tensor) -> None:
        """Pushes points of the grid, (N,)."""
        shifted, wide = points.long() + self.width // 2, self.width > 1
        stack.push(shifted[wide] % self.width[wide], uniform(self.width[wide]))
        stack.push(shifted.div(self.width, rounding_mode="floor") - self.base, self.masses)


Grid = type[PriorGrid] | type[PosteriorGrid]


def simple_pop(stack: BitStack | None, distribution: Distribution, grid: Grid) -> Tensor:
    """Returns z (1, *event) of independent latents; without a stack their center, which costs no bits."""
    if isinstance(distribution, ProductDistribution):
        return torch.cat([simple_pop(stack, part, grid) for part in distribution.parts], -1)
    shape = (1, *distribution.event_shape)
    if isinstance(distribution, DiagonalNormal):
        points = (distribution.loc / STEP).round() if stack is None else grid.of(distribution).pop(stack)
        if bool((points.abs() > LARGEST).any()):
            raise SupportError(
                f"Got a latent of {float(points.abs().max()) * STEP:.3g}; compression expected magnitudes up to "
                f"{LARGEST * STEP:.3g}. Choose another model."
            )
        return points.to(distribution.loc).reshape(shape) * STEP
    log_probs = cast(OneHotCategoricals, distribution).log_probs
    rows = log_probs.reshape(-1, log_probs.shape[-1])
    chosen = rows.argmax(-1) if stack is None else stack.pop(table(rows.exp()))
    return torch.nn.functional.one_hot(chosen, rows.shape[-1]).to(rows).reshape(shape)


def simple_push(stack: BitStack, distribution: Distribution, z: Tensor, grid: Grid) -> None:
    """Pushes z (1, *event) of independent latents."""
    if isinstance(distribution, ProductDistribution):
        pairs = zip(distribution.parts, z.split(distribution.sizes, -1), strict=True)
        for part, each in reversed(list(pairs)):
            simple_push(stack, part, each, grid)
    elif isinstance(distribution, DiagonalNormal):
        grid.of(distribution).push(stack, (z.flatten() / STEP).round())
    else:
        log_probs = cast(OneHotCategoricals, distribution).log_probs
        rows = log_probs.reshape(-1, log_probs.shape[-1])
        stack.push(z.reshape(rows.shape).argmax(-1), table(rows.exp()))


def is_simple(distribution: Distribution) -> bool:
    """Returns whether latents are independent normals and categories."""
    if isinstance(distribution, ProductDistribution):
        return all(map(is_simple, distribution.parts))
    return isinstance(distribution, DiagonalNormal | OneHotCategoricals)


def pop_path(stack: BitStack | None, path: Path, c: Tensor | None, propose: Propose | None = None) -> Tensor:
    """Returns z (1, total) of a hierarchy, level by level from the top, under its prior or what `propose` returns."""
    found = list[Tensor]()

    def choose(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
        chosen = prior if propose is None else propose(level, state, prior)
        found.append(simple_pop(stack, chosen, PriorGrid if propose is None else PosteriorGrid))
        return found[-1]

    run_top_down(path, (1,), c, choose)
    return torch.cat(found, -1)


def push_path(stack: BitStack, path: Path, c: Tensor | None, z: Tensor, propose: Propose | None = None) -> None:
    """Pushes z (1, total) of a hierarchy, so that `pop_path` returns it."""
    levels, found = levels_of(path, z), list[DiagonalNormal]()

    def choose(level: int, state: Tensor, prior: DiagonalNormal) -> Tensor:
        found.append(prior if propose is None else propose(level, state, prior))
        return levels[level]

    run_top_down(path, (1,), c, choose)
    for each, level in reversed([*zip(found, levels, strict=True)]):
        simple_push(stack, each, level, PriorGrid if propose is None else PosteriorGrid)


class LatentCoder:
    """The latents of a model as symbols. All methods take and return a batch of one.

    Args:
        model: in eval mode and double precision, without gradients.

    Raises:
        CompositionError: the posterior or the prior is of a type whose masses are not computed here.
    """

    def __init__(self, model: VAE) -> None:
        self.model = model
        #: whether z is a function of x, so that no bits are taken from the stack
        self.is_point = False
        self._prior: Distribution | None = None

    def prior(self, c: Tensor | None) -> Distribution:
        """Returns p(z|c); without a context it is computed once."""
        if self._prior is None or c is not None:
            self._prior = cast(Distribution, self.model.prior(c))
        return self._prior

    def check(self, x: Tensor, c: Tensor | None) -> None:
        """Raises CompositionError for a model that is not supported, given one example."""
        posterior, prior = self.model.encoder(x, c), self.prior(c)
        self.is_point = is_deterministic(posterior)
        if isinstance(posterior, CodePoint):
            fits = isinstance(prior, UniformCodes) and 1 < prior.source.codes < MOST_CODES
        elif isinstance(posterior, HierarchicalPosterior | ChainPosterior):
            fits = isinstance(prior, HierarchicalPrior)
        else:
            mixed = isinstance(prior, Mixture) and isinstance(prior.components, DiagonalNormal)
            fits = is_simple(posterior) and (is_simple(prior) or mixed)
        if not fits:
            raise CompositionError(
                f"Got a posterior of type {type(posterior).__name__} and a prior of type {type(prior).__name__}; "
                "compression supports independent normals and categories (under normal, categorical and mixture "
                "priors), hierarchies of normals, and codes under the uniform prior. It needs the mass of each latent "
                "alone, which other posteriors (flows, points, dynamics) and priors (flows, transformers) do not give."
            )

    def draw(self, stack: BitStack | None, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns z (1, *latent) of x, popped with its probabilities under q(z|x); without a stack its center."""
        posterior = cast(Distribution, self.model.encoder(x, c))
        if isinstance(posterior, CodePoint):
            return self._look_up(posterior.indices.reshape(1, -1))
        if isinstance(posterior, HierarchicalPosterior):
            return pop_path(stack, posterior.path, c, posterior.propose)
        if isinstance(posterior, ChainPosterior):
            low = simple_pop(stack, posterior.lower, PosteriorGrid)
            return torch.cat([simple_pop(stack, posterior.above(low), PosteriorGrid), low], -1)
        return simple_pop(stack, posterior, PosteriorGrid)

    def undraw(self, stack: BitStack, x: Tensor, c: Tensor | None, z: Tensor) -> None:
        """Pushes z back, so that the stack is as it was before `draw`."""
        posterior = cast(Distribution, self.model.encoder(x, c))
        if isinstance(posterior, HierarchicalPosterior):
            push_path(stack, posterior.path, c, z, posterior.propose)
        elif isinstance(posterior, ChainPosterior):
            high, low = z[..., : posterior.upper_size], z[..., posterior.upper_size :]
            simple_push(stack, posterior.above(low), high, PosteriorGrid)
            simple_push(stack, posterior.lower, low, PosteriorGrid)
        elif not isinstance(posterior, CodePoint):
            simple_push(stack, posterior, z, PosteriorGrid)

    def push(self, stack: BitStack, z: Tensor, c: Tensor | None) -> None:
        """Pushes z with its probabilities under the prior."""
        prior = self.prior(c)
        if isinstance(prior, UniformCodes):
            indices = prior.source.indices_of(z).flatten()
            stack.push(indices, uniform(torch.full_like(indices, prior.source.codes)))
        elif isinstance(prior, HierarchicalPrior):
            push_path(stack, prior.path, c, z)
        elif isinstance(prior, Mixture):
            component = stack.pop(table(prior.responsibilities(z)))
            simple_push(stack, component_of(prior, component), z, PriorGrid)
            stack.push(component, table(weights_of(prior)))
        else:
            simple_push(stack, prior, z, PriorGrid)

    def pop(self, stack: BitStack, c: Tensor | None) -> Tensor:
        """Returns z (1, *latent) that `push` pushed."""
        prior = self.prior(c)
        if isinstance(prior, UniformCodes):
            sizes = torch.full((sum(prior.source.sections),), prior.source.codes)
            return self._look_up(stack.pop(uniform(sizes)).unsqueeze(0))
        if isinstance(prior, HierarchicalPrior):
            return pop_path(stack, prior.path, c)
        if isinstance(prior, Mixture):
            component = stack.pop(table(weights_of(prior)))
            z = simple_pop(stack, component_of(prior, component), PriorGrid)
            stack.push(component, table(prior.responsibilities(z)))
            return z
        return simple_pop(stack, prior, PriorGrid)

    def _look_up(self, indices: Tensor) -> Tensor:
        return cast(CodeSource, self.model.encoder).look_up(indices)


def component_of(mixture: Mixture, component: Tensor) -> DiagonalNormal:
    """Returns a component of a mixture, with a batch of one."""
    return cast(DiagonalNormal, mixture.components).take(component)


def weights_of(mixture: Mixture) -> Tensor:
    """Returns the probabilities of the components, (1, M)."""
    if mixture.log_weights is None:
        count = mixture.components.batch_shape[0]
        return torch.full((1, count), 1.0 / count, dtype=torch.float64)
    return mixture.log_weights.exp().unsqueeze(0)
