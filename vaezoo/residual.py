"""Residual networks on a ladder of grids, each half as fine as the last: the two ways of a top-down VAE.

After NVAE (Vahdat & Kautz, 2020, https://arxiv.org/abs/2007.03898) and VDVAE (Child, 2021,
https://arxiv.org/abs/2011.10650), without their normalisation: no buffer changes, and no example sees another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from vaezoo.distributions import DiagonalNormal, normal_from
from vaezoo.hierarchies import Path, repeat_rows
from vaezoo.networks.conv import ladder

__all__ = ["Ascent", "Grid", "Proposals", "ResidualPath", "grids_of"]

Grid = tuple[int, int]


class Bottleneck(nn.Sequential):
    """Activation, 3 x 3 convolution (1 x 1 where there is one position), activation, 1 x 1 convolution.

    Args:
        before, inside, after: widths. grid: where it stands. scale: of the last layer's weights at the start.
    """

    def __init__(self, before: int, inside: int, after: int, grid: Grid, scale: float = 1.0) -> None:
        kernel = 3 if max(grid) > 1 else 1
        last = nn.Conv2d(inside, after, 1)
        super().__init__(
            nn.SiLU(),
            nn.Conv2d(before, inside, kernel, padding=kernel // 2),
            nn.SiLU(),
            last,
        )
        with torch.no_grad():
            last.weight *= scale


class Ascent(nn.Module):
    """From features on the finest grid up: residual blocks on each grid, averages between grids.

    Args:
        width, inside: of the features, and inside a block.
        grids: where each level stands, the top one first.
    """

    def __init__(self, width: int, inside: int, grids: Sequence[Grid]) -> None:
        super().__init__()
        self.grids = tuple(grids)
        scale = len(grids) ** -0.5
        self.blocks = nn.ModuleList(Bottleneck(width, inside, width, grid, scale) for grid in grids)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Returns what each level sees of x, (B, width, *grid), from `features` (B, width, *finest)."""
        found: list[Tensor] = []
        for block, grid in zip(reversed(self.blocks), reversed(self.grids), strict=True):
            if features.shape[2:] != grid:
                features = adaptive_avg_pool2d(features, grid)
            features = features + block(features)
            found.append(features)
        return found[::-1]


class ResidualPath(Path):
    """The way down: each level has a prior from the features above it, and adds its z to them.

    Args:
        width, inside: of the features, and inside a block.
        grids: where each level stands, the top one first.
        channels: latents at each position.
        context: width of the context.
    """

    def __init__(self, width: int, inside: int, grids: Sequence[Grid], channels: int, context: int) -> None:
        super().__init__()
        self.grids, self.channels, self.width = tuple(grids), channels, width
        self.sizes = tuple(channels * math.prod(grid) for grid in grids)
        scale = len(grids) ** -0.5
        self.top = nn.Parameter(torch.randn(width, *grids[0]))
        self.told = nn.Linear(context, width) if context else None
        self.priors = nn.ModuleList(Bottleneck(width, inside, 2 * channels + width, grid, scale) for grid in grids)
        self.merges = nn.ModuleList(nn.Conv2d(channels, width, 1) for _ in grids)
        self.blocks = nn.ModuleList(Bottleneck(width, inside, width, grid, scale) for grid in grids)

    def start(self, rows: int, c: Tensor | None) -> Tensor:
        """Returns the learnt features at the top, (rows, width, *grid), moved by the context."""
        top = self.top.expand(rows, *self.top.shape)
        if self.told is None or c is None:
            return top
        told: Tensor = self.told(c.to(top.dtype))
        return top + told[..., None, None]

    def prior(self, level: int, state: Tensor, c: Tensor | None) -> tuple[DiagonalNormal, Tensor]:
        """Returns p(z_l|z_<l), and the features on its grid."""
        if state.shape[2:] != self.grids[level]:
            state = interpolate(state, self.grids[level])
        raw, features = self.priors[level](state).split([2 * self.channels, self.width], 1)
        return normal_from(raw.unflatten(1, (2, -1)).flatten(2), 1), state + features

    def move(self, level: int, state: Tensor, z: Tensor, c: Tensor | None) -> Tensor:
        """Returns the features with z added."""
        merge = self.merges[level]
        planes = z.to(self.top.dtype).unflatten(1, (self.channels, *self.grids[level]))
        state = state + merge(planes)
        moved: Tensor = state + self.blocks[level](state)
        return moved


class Proposals(nn.Module):
    r"""Each level's posterior, relative to its prior: $\mathcal{N}(\mu_p + \Delta\mu, (\sigma_p\,\Delta\sigma)^2)$.

    Args:
        width, inside: of the features, and inside a block.
        grids: where each level stands, the top one first.
        channels: latents at each position.
    """

    def __init__(self, width: int, inside: int, grids: Sequence[Grid], channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Bottleneck(2 * width, inside, 2 * channels, grid) for grid in grids)

    def forward(self, level: int, state: Tensor, seen: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
        """Returns q(z_l|x, z_<l), batch (rows,), from the path's state and what the level sees of x (B, ...)."""
        raw = self.blocks[level](torch.cat([state, repeat_rows(seen, len(state))], 1))
        change = normal_from(raw.unflatten(1, (2, -1)).flatten(2), 1)
        return DiagonalNormal(prior.loc + change.loc, prior.log_scale + change.log_scale)


def grids_of(finest: Grid, blocks: Sequence[int]) -> list[Grid]:
    """Returns where each level stands, the top one first: `blocks` on each grid, the coarsest first."""
    grids = ladder(finest, len(blocks) - 1)[::-1]
    return [grid for grid, count in zip(grids, blocks, strict=True) for _ in range(count)]
