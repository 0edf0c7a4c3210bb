"""Encoder and decoder of codes on two grids, of which the coarse one tells the fine one (Razavi et al., 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model
from vaezoo.networks.network import Network
from vaezoo.quantization.codebook import MultiCodebook, encoded_by
from vaezoo.quantization.codes import CodePoint, Level, nearest, straight_through

__all__ = ["TwoGridEncoder", "TwoGridNetwork"]

Grids = tuple[tuple[int, ...], tuple[int, ...]]


class TwoGridEncoder(MultiCodebook):
    """Codes of what a network makes of x, told the codes of what another makes of that on a coarser grid.

    Args:
        bottom: maps x and c to (B, 1, D, *fine grid).
        top: maps that to (B, 1, D, *coarse grid).
        back: maps codes of the coarse grid to (B, 1, D, *fine grid), which is added to what `bottom` gave.
        latent: (D, N), coarse positions first.
        grids: the coarse and the fine one.
        codes, decay, revival: of each codebook, see `Codebook`.
    """

    def __init__(
        self,
        bottom: nn.Module,
        top: nn.Module,
        back: nn.Module,
        latent: Sequence[int],
        grids: Grids,
        *,
        codes: int,
        decay: float,
        revival: float,
    ) -> None:
        super().__init__(latent[0], grids, codes=codes, decay=decay, revival=revival)
        self.bottom, self.top, self.back = bottom, top, back
        self.latent = tuple(latent)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the codes of both grids; in gradients they count as what was encoded (straight-through)."""
        features = encoded_by(self.bottom, x, c)
        top = self.codebooks()[0].quantize(encoded_by(self.top, features, c))
        bottom = self.codebooks()[1].quantize(self.told(features, top, c))
        levels = [top, bottom]
        return CodePoint(self.joined([straight_through(level.encoded, level.codes) for level in levels]), levels)

    def told(self, features: Tensor, top: Level, c: Tensor | None) -> Tensor:
        """Returns what the fine codes are for, (B, D, *fine grid): features, and what the coarse codes make of them."""
        return features + encoded_by(self.back, straight_through(top.encoded, top.codes), c)

    def joined(self, values: Sequence[Tensor]) -> Tensor:
        """Returns values (..., D, *grid) of both grids as (..., D, N)."""
        return torch.cat([each.flatten(-len(grid)) for each, grid in zip(values, self.grids, strict=True)], -1)

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the codes (..., D, N) of `indices` (..., N)."""
        return self.joined(self.codes_of(indices))

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) of the codes nearest to z (..., D, N)."""
        parts = zip(self.codebooks(), z.mT.split(self.sections, -2), strict=True)
        return torch.cat([nearest(book.codebook, part) for book, part in parts], -1)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Puts the coarse codes on k-means centres, then the fine ones of what they leave to tell."""
        first, second = self.codebooks()
        with torch.no_grad():
            features = [encoded_by(self.bottom, x, c) for x, c in batches]
            contexts = [c for _, c in batches]
            coarse = [encoded_by(self.top, each, c) for each, c in zip(features, contexts, strict=True)]
            first.kmeans_init(torch.cat(coarse))
            taken = zip(features, map(first.quantize, coarse), contexts, strict=True)
            second.kmeans_init(torch.cat([self.told(*each) for each in taken]))


class TwoGridNetwork(nn.Module):
    """Maps codes z (..., D, N) of two grids to a likelihood's numbers: the coarse ones are brought to the fine grid.

    Args:
        back: maps (..., D, *coarse grid) to (..., 1, D, *fine grid).
        up: maps (..., 2 D, *fine grid) to (..., P, *shape).
        grids: the coarse and the fine one.
    """

    def __init__(self, back: Network, up: Network, grids: Grids) -> None:
        super().__init__()
        self.back, self.up, self.grids = back, up, grids

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns (..., P, *shape)."""
        sizes = [torch.Size(grid).numel() for grid in self.grids]
        top, bottom = (part.unflatten(-1, grid) for part, grid in zip(z.split(sizes, -1), self.grids, strict=True))
        channels = -1 - len(self.grids[1])
        coarse = self.back(top, c).squeeze(channels - 1)
        both: Tensor = self.up(torch.cat([coarse.to(bottom.dtype), bottom], channels), c)
        return both

    def set_output_bias(self, output: Tensor) -> None:
        """Starts the last bias where a zero input gives `output`."""
        self.up.set_output_bias(output)
