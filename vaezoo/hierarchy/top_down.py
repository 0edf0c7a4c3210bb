"""Residual networks on a ladder of grids, each half as fine as the next: the two ways of a top-down VAE.

After NVAE (Vahdat & Kautz, 2020, https://arxiv.org/abs/2007.03898) and VDVAE (Child, 2021,
https://arxiv.org/abs/2011.10650), without their normalisation: no buffer changes, and no example sees another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import linear, silu

from vaezoo.core import Model
from vaezoo.core.part import network_inputs
from vaezoo.distributions.normal import DiagonalNormal, normal_from
from vaezoo.hierarchy.distributions import HierarchicalPosterior
from vaezoo.hierarchy.parts import PathMixin
from vaezoo.hierarchy.path import Path, repeat_rows
from vaezoo.networks.convolutional import grid_sizes
from vaezoo.networks.initialization import check_weights, scale_last_layer_to_data

__all__ = ["BottomUpNetwork", "LevelSpec", "RelativePosteriors", "ResidualPath", "TopDownEncoder", "level_specs"]

SPREAD = 0.03  # of the proposed means over examples at the start
LOUD = 4.0  # of the weights that take latents into the path: louder than what is constant there
FAINT = 0.1  # of the last weights of a residual block at the start: what goes past it comes first

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LevelSpec:
    """Where a level stands: on a grid of h x w positions, with `wider` times the channels of the finest grid."""

    grid: Grid
    wider: int

    @property
    def units(self) -> int:
        """How many latents a level here has for each one at a position of the finest grid."""
        return self.wider * math.prod(self.grid)


def level_specs(finest: Grid, blocks: Sequence[int]) -> list[LevelSpec]:
    """Returns where each level stands, the top one first: `blocks` on each grid, the coarsest first.

    Each grid is half as fine as the next, rounded up, and has twice its channels; a single position stays as it is.
    """
    found, wider = list[LevelSpec](), 1
    grids = grid_sizes(finest, len(blocks) - 1)
    for place, (grid, count) in enumerate(zip(grids, reversed(blocks), strict=True)):
        wider *= 2 if place and grid != grids[place - 1] else 1
        found += [LevelSpec(grid, wider)] * count
    return found[::-1]


class PointwiseConv(nn.Conv2d):
    """A 1 x 1 convolution, taken as the matrix that it is where there is one position: much faster on a CPU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, after, h, w) of x (rows, before, h, w)."""
        if x.shape[-2:].numel() > 1:
            return super().forward(x)
        return linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


class Bottleneck(nn.Sequential):
    """Activation, 3 x 3 convolution (1 x 1 where there is one position), activation, 1 x 1 convolution.

    Args:
        before, inside, after: widths. grid: where it stands.
    """

    def __init__(self, before: int, inside: int, after: int, grid: Grid) -> None:
        last = PointwiseConv(inside, after)
        first = nn.Conv2d(before, inside, 3, padding=1) if max(grid) > 1 else PointwiseConv(before, inside)
        super().__init__(nn.SiLU(), first, nn.SiLU(), last)
        with torch.no_grad():
            last.weight *= FAINT
            cast(Tensor, last.bias).mul_(FAINT)


class BottomUpNetwork(nn.Module):
    """From features on the finest grid up: a residual block for each level, strided convolutions between grids.

    Args:
        width: of the features on the finest grid.
        levels: where they stand, the top one first.
    """

    def __init__(self, width: int, levels: Sequence[LevelSpec]) -> None:
        super().__init__()
        wide = [width * level.wider for level in levels]
        self.blocks = nn.ModuleList(
            Bottleneck(own, own // 2, own, level.grid) for own, level in zip(wide, levels, strict=True)
        )
        self.ups = nn.ModuleList(
            nn.Identity() if above.grid == below.grid else nn.Conv2d(width * below.wider, width * above.wider, 3, 2, 1)
            for above, below in pairwise(levels)
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        """Returns what each level sees of x, (B, channels, *grid), the top one first, from the finest features."""
        found: list[Tensor] = []
        for level in range(len(self.blocks) - 1, -1, -1):
            features = features + self.blocks[level](features)
            found.append(features)
            features = self.ups[level - 1](features) if level else features
        return found[::-1]


class TopDownBlock(nn.Module):
    """One level of the way down: the step to its grid, its prior, and how its latents join the features.

    Args:
        stand, above: where it and the level above it stand; None above the top.
        width: of the features on the finest grid.
        channels: latents at each position of the finest grid.
    """

    def __init__(self, stand: LevelSpec, above: LevelSpec | None, width: int, channels: int) -> None:
        super().__init__()
        own, grid = width * stand.wider, stand.grid
        self.planes = (channels * stand.wider, *grid)
        self.offset: nn.Parameter | None = None
        self.step: nn.Module | None = None
        if above is None:
            self.offset = nn.Parameter(torch.zeros(own, *grid))
        elif above.grid != grid:
            # An odd side needs no padding, an even one does: 2n - 1 or 2n.
            padding = (1 - grid[0] % 2, 1 - grid[1] % 2)
            self.step = nn.ConvTranspose2d(width * above.wider, own, 3, 2, 1, padding, bias=False)
            self.offset = nn.Parameter(torch.zeros(own, *grid))
        self.prior = Bottleneck(own, own // 2, 2 * self.planes[0] + own, grid)
        self.merge = PointwiseConv(self.planes[0], own)
        with torch.no_grad():
            self.merge.weight *= LOUD
        self.block = Bottleneck(own, own // 2, own, grid)

    def enter(self, state: Tensor) -> Tensor:
        """Returns the features on this level's grid, from those of the level above."""
        return state if self.step is None else cast(Tensor, self.step(silu(state)) + self.offset)


class ResidualPath(Path):
    """The way down: each level has a prior from the features above it, and adds its z to them.

    Args:
        width: of the features on the finest grid.
        levels: where they stand, the top one first.
        channels: latents at each position of the finest grid; twice as many where features are twice as wide.
        context: width of the context.

    Raises:
        ShapeError: more weights than can be meant.
    """

    def __init__(self, width: int, levels: Sequence[LevelSpec], channels: int, context: int) -> None:
        super().__init__()
        wide = [width * level.wider for level in levels]
        weights = (own * (40 * own + 3 * channels * level.wider) for own, level in zip(wide, levels, strict=True))
        check_weights("residual network", weights)  # upwards, downwards and of the proposals
        self.sizes = tuple(channels * level.units for level in levels)
        self.told = nn.Linear(context, wide[0]) if context else None
        pairs = zip(levels, [None, *levels[:-1]], strict=True)
        self.rungs = nn.ModuleList(TopDownBlock(own, above, width, channels) for own, above in pairs)

    def rung(self, level: int) -> TopDownBlock:
        """Returns one level."""
        return cast(TopDownBlock, self.rungs[level])

    def start(self, rows: int, c: Tensor | None) -> Tensor:
        """Returns the learnt features at the top, (rows, channels, *grid), moved by the context."""
        offset = cast(Tensor, self.rung(0).offset)
        top = offset.expand(rows, *offset.shape)
        if self.told is None or c is None:
            return top
        told: Tensor = self.told(c.to(top.dtype))
        return top + told[..., None, None]

    def prior(self, level: int, state: Tensor, c: Tensor | None) -> tuple[DiagonalNormal, Tensor]:
        """Returns p(z_l|z_<l), and the features on its grid."""
        rung = self.rung(level)
        state = rung.enter(state)
        raw, features = rung.prior(state).split([2 * rung.planes[0], state.shape[1]], 1)
        return normal_from(raw.unflatten(1, (2, -1)).flatten(2), 1), state + features

    def move(self, level: int, state: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
        """Returns the features with z added."""
        rung = self.rung(level)
        state = state + rung.merge(z.to(rung.merge.weight.dtype).unflatten(1, rung.planes))
        return cast(Tensor, state + rung.block(state))


class RelativePosteriors(nn.Module):
    r"""Each level's posterior, relative to its prior: $\mathcal{N}(\mu_p + \Delta\mu, (\sigma_p\,\Delta\sigma)^2)$.

    Args:
        width: of the features on the finest grid.
        levels: where they stand, the top one first.
        channels: latents at each position of the finest grid.
    """

    def __init__(self, width: int, levels: Sequence[LevelSpec], channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Bottleneck(2 * width * each.wider, width * each.wider // 2, 2 * channels * each.wider, each.grid)
            for each in levels
        )
        self.views = nn.ModuleList(PointwiseConv(width * each.wider, 2 * channels * each.wider) for each in levels)

    def start(self, seen: Sequence[Sequence[Tensor]]) -> None:
        r"""Spreads each $\Delta\mu$ over examples, from what the levels see of batches."""
        for view, batches in zip(self.views, zip(*seen, strict=True), strict=True):
            scale_last_layer_to_data(view, torch.cat([view(each).chunk(2, 1)[0] for each in batches]), SPREAD)

    def forward(self, level: int, state: Tensor, seen: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
        """Returns q(z_l|x, z_<l), batch (rows,), from the path's state and what the level sees of x (B, ...)."""
        seen = repeat_rows(seen, len(state))
        raw = self.views[level](seen) + self.blocks[level](torch.cat([state, seen], 1))
        change = normal_from(raw.unflatten(1, (2, -1)).flatten(2), 1)
        return DiagonalNormal(prior.loc + change.loc, prior.log_scale + change.log_scale)


class TopDownEncoder(PathMixin):
    """A network from the bottom up, and a posterior for each level of the prior's path."""

    def __init__(self, stem: nn.Module, ascent: BottomUpNetwork, proposals: RelativePosteriors) -> None:
        super().__init__()
        self.stem, self.ascent, self.proposals = stem, ascent, proposals

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Starts the proposals where images differ."""
        with torch.no_grad():
            self.proposals.start([self.see(x, c) for x, c in batches])

    def see(self, x: Tensor, c: Tensor | None) -> list[Tensor]:
        """Returns what each level sees of x, the top one first."""
        return cast(list[Tensor], self.ascent(self.stem(*network_inputs(x, c)).squeeze(1)))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        seen = self.see(x, c)

        def propose(level: int, state: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
            return cast(DiagonalNormal, self.proposals(level, state, seen[level], prior))

        return HierarchicalPosterior(self.path, propose, len(x), c)
