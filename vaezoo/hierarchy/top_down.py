r"""Residual networks of a top-down VAE: levels on grids, each grid half as fine as the next.

$$q(z_l|x, z_{<l}) = \mathcal{N}(\mu_p + \Delta\mu, (\sigma_p\,\Delta\sigma)^2), \qquad
    p(z_l|z_{<l}) = \mathcal{N}(\mu_p, \sigma_p^2)$$

The networks have no batch normalization, so that examples stay independent.

References:
    NVAE: Vahdat & Kautz (2020), https://arxiv.org/abs/2007.03898
    VDVAE: Child (2021), https://arxiv.org/abs/2011.10650
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import linear, silu

from vaezoo.core import Model, network_inputs, require_vector_latent
from vaezoo.distributions import DiagonalNormal, normal_from
from vaezoo.errors import ShapeError
from vaezoo.hierarchy.distributions import HierarchicalPosterior
from vaezoo.hierarchy.parts import PathMixin
from vaezoo.hierarchy.path import Path, repeat_rows
from vaezoo.networks import check_weights, scale_last_layer_to_data
from vaezoo.networks.convolutional import Double, Upsampling, grid_sizes

MEANS = 0.03  # initial standard deviation of the proposed means over examples
MERGE_SCALE = 4.0  # of the weights from latents to the path, so that latents dominate its constant features
RESIDUAL_SCALE = 0.1  # of the last weights of a residual block, so that blocks start close to the identity

Grid = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LevelSpec:
    """The place of a level: its grid (h, w), and the ratio `wider` of its channels to those on the finest grid."""

    grid: Grid
    wider: int

    @property
    def units(self) -> int:
        """The number of latents of this level for one latent at each position of the finest grid."""
        return self.wider * math.prod(self.grid)


def level_specs(finest: Sequence[int], blocks: Sequence[int]) -> list[LevelSpec]:
    """Returns the levels, the top one first, for the number of levels on each grid, the coarsest first.

    Each grid is half as fine as the next, rounded up, with twice the channels; a single position is not halved.
    """
    found, wider = list[LevelSpec](), 1
    grids = grid_sizes(finest, len(blocks) - 1)
    for place, (grid, count) in enumerate(zip(grids, reversed(blocks), strict=True)):
        wider *= 2 if place and grid != grids[place - 1] else 1
        found += [LevelSpec((grid[0], grid[1]), wider)] * count
    return found[::-1]


def finest_channels(latent: Sequence[int], levels: Sequence[LevelSpec], name: str) -> int:
    """Returns the number of latents at each position of the finest grid.

    Raises:
        ShapeError: `latent` of the variant `name` is not one axis with a multiple of the latents for a single channel.
    """
    units = sum(level.units for level in levels)
    channels, rest = divmod(require_vector_latent(latent, name, units), units)
    if rest:
        raise ShapeError(
            f"Got latent = {list(latent)}; {name} with these blocks expected a multiple of {units}. Choose latent = "
            f"{channels * units}, for {channels} at each position of the finest grid."
        )
    return channels


class PointwiseConv(nn.Conv2d):
    """A 1 x 1 convolution, computed as a matrix product on a single position, which is faster on a CPU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (rows, after, h, w) of x (rows, before, h, w)."""
        if x.shape[-2:].numel() > 1:
            return super().forward(x)
        return linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


class Bottleneck(nn.Sequential):
    """Activation, 3 x 3 convolution (1 x 1 on a single position), activation, 1 x 1 convolution.

    Args:
        before, inside, after: numbers of channels.
        grid: the grid of the level.
    """

    def __init__(self, before: int, inside: int, after: int, grid: Grid) -> None:
        last = PointwiseConv(inside, after)
        first = nn.Conv2d(before, inside, 3, padding=1) if max(grid) > 1 else PointwiseConv(before, inside)
        super().__init__(nn.SiLU(), first, nn.SiLU(), last)
        with torch.no_grad():
            last.weight *= RESIDUAL_SCALE
            cast(Tensor, last.bias).mul_(RESIDUAL_SCALE)


class BottomUpNetwork(nn.Module):
    """Bottom-up features: a residual block for each level, strided convolutions between grids.

    Args:
        width: channels of the features on the finest grid.
        levels: the levels, the top one first.
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
        """Returns the features of each level, (B, channels, *grid), the top one first, for those on the finest grid."""
        found: list[Tensor] = []
        for level in range(len(self.blocks) - 1, -1, -1):
            features = features + self.blocks[level](features)
            found.append(features)
            features = self.ups[level - 1](features) if level else features
        return found[::-1]


class TopDownBlock(nn.Module):
    """One level of the top-down path: upsampling to its grid, its prior, and the update by its latents.

    Args:
        spec, above: the level and the one above it; None above the top.
        width: channels of the features on the finest grid.
        channels: latents at each position of the finest grid.
        upsampling: how the features are doubled, see `Double`; or by a "transposed" convolution.
    """

    def __init__(
        self,
        spec: LevelSpec,
        above: LevelSpec | None,
        width: int,
        channels: int,
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        own, grid = width * spec.wider, spec.grid
        self.planes = (channels * spec.wider, *grid)
        self.offset: nn.Parameter | None = None
        self.step: nn.Module | None = None
        if above is None:
            self.offset = nn.Parameter(torch.zeros(own, *grid))
        elif above.grid != grid:
            # An odd side needs no padding, an even one does: 2n - 1 or 2n.
            padding = (1 - grid[0] % 2, 1 - grid[1] % 2)
            if upsampling == "transposed":
                self.step = nn.ConvTranspose2d(width * above.wider, own, 3, 2, 1, padding, bias=False)
            else:
                self.step = Double(width * above.wider, own, grid, upsampling, bias=False)
            self.offset = nn.Parameter(torch.zeros(own, *grid))
        self.prior = Bottleneck(own, own // 2, 2 * self.planes[0] + own, grid)
        self.merge = PointwiseConv(self.planes[0], own)
        with torch.no_grad():
            self.merge.weight *= MERGE_SCALE
        self.block = Bottleneck(own, own // 2, own, grid)

    def enter(self, state: Tensor) -> Tensor:
        """Returns the state on the grid of this level, for that of the level above."""
        return state if self.step is None else cast(Tensor, self.step(silu(state)) + self.offset)


class ResidualPath(Path):
    """The top-down path: the state gives the prior of each level, and the latents of the level update the state.

    Args:
        width: channels of the features on the finest grid.
        levels: the levels, the top one first.
        channels: latents at each position of the finest grid; in proportion to the features on other grids.
        context: width of the context.
        upsampling: see `TopDownBlock`.

    Raises:
        ShapeError: more weights than the limit.
    """

    def __init__(
        self,
        width: int,
        levels: Sequence[LevelSpec],
        channels: int,
        context: int,
        upsampling: Upsampling = "transposed",
    ) -> None:
        super().__init__()
        wide = [width * level.wider for level in levels]
        weights = (own * (40 * own + 3 * channels * level.wider) for own, level in zip(wide, levels, strict=True))
        check_weights("residual network", weights)  # bottom-up, top-down and posteriors
        self.sizes = tuple(channels * level.units for level in levels)
        self.context = nn.Linear(context, wide[0]) if context else None
        pairs = zip(levels, [None, *levels[:-1]], strict=True)
        self.rungs = nn.ModuleList(TopDownBlock(own, above, width, channels, upsampling) for own, above in pairs)

    def block(self, level: int) -> TopDownBlock:
        """Returns the block of a level."""
        return cast(TopDownBlock, self.rungs[level])

    def start(self, rows: int, c: Tensor | None) -> Tensor:
        """Returns the learned initial state (rows, channels, *grid), shifted by the context."""
        offset = cast(Tensor, self.block(0).offset)
        top = offset.expand(rows, *offset.shape)
        if self.context is None or c is None:
            return top
        shift: Tensor = self.context(c.to(top.dtype))
        return top + shift[..., None, None]

    def prior(self, level: int, state: Tensor, c: Tensor | None) -> tuple[DiagonalNormal, Tensor]:
        """Returns p(z_l|z_<l), and the state on its grid."""
        block = self.block(level)
        state = block.enter(state)
        raw, features = block.prior(state).split([2 * block.planes[0], state.shape[1]], 1)
        return normal_from(raw.unflatten(1, (2, -1)).flatten(2), 1), state + features

    def update(self, level: int, state: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
        """Returns the state updated by z."""
        block = self.block(level)
        state = state + block.merge(z.to(block.merge.weight.dtype).unflatten(1, block.planes))
        return cast(Tensor, state + block.block(state))


class RelativePosteriors(nn.Module):
    r"""The posterior of each level relative to its prior, $\mathcal{N}(\mu_p + \Delta\mu, (\sigma_p\,\Delta\sigma)^2)$.

    Args:
        width: channels of the features on the finest grid.
        levels: the levels, the top one first.
        channels: latents at each position of the finest grid.
    """

    def __init__(self, width: int, levels: Sequence[LevelSpec], channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Bottleneck(2 * width * each.wider, width * each.wider // 2, 2 * channels * each.wider, each.grid)
            for each in levels
        )
        self.views = nn.ModuleList(PointwiseConv(width * each.wider, 2 * channels * each.wider) for each in levels)

    def initialize(self, features: Sequence[Sequence[Tensor]]) -> None:
        r"""Rescales each $\Delta\mu$ to a fixed standard deviation over examples, given the features of batches."""
        for view, batches in zip(self.views, zip(*features, strict=True), strict=True):
            scale_last_layer_to_data(view, torch.cat([view(each).chunk(2, 1)[0] for each in batches]), MEANS)

    def forward(self, level: int, state: Tensor, features: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
        """Returns q(z_l|x, z_<l), batch (rows,), for the state and the features of the level (B, ...)."""
        features = repeat_rows(features, state.shape[0])
        raw = self.views[level](features) + self.blocks[level](torch.cat([state, features], 1))
        change = normal_from(raw.unflatten(1, (2, -1)).flatten(2), 1)
        return DiagonalNormal(prior.loc + change.loc, prior.log_scale + change.log_scale)


class TopDownEncoder(PathMixin):
    """An encoder with bottom-up features and a posterior for each level of the path.

    Args:
        stem: maps x and c to features (B, 1, width, *finest grid).
        width: channels of the features on the finest grid.
        levels: the levels, the top one first.
        channels: latents at each position of the finest grid.
    """

    posterior_type = HierarchicalPosterior

    def __init__(self, stem: nn.Module, width: int, levels: Sequence[LevelSpec], channels: int) -> None:
        super().__init__()
        self.stem, self.ascent = stem, BottomUpNetwork(width, levels)
        self.proposals = RelativePosteriors(width, levels, channels)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Rescales the proposed means of each level to a fixed standard deviation over examples."""
        with torch.no_grad():
            self.proposals.initialize([self.features(x, c) for x, c in batches])

    def features(self, x: Tensor, c: Tensor | None) -> list[Tensor]:
        """Returns the features of each level, the top one first."""
        return cast(list[Tensor], self.ascent(self.stem(*network_inputs(x, c)).squeeze(1)))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        features = self.features(x, c)

        def propose(level: int, state: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
            return cast(DiagonalNormal, self.proposals(level, state, features[level], prior))

        return HierarchicalPosterior(self.path, propose, x.shape[0], c)
