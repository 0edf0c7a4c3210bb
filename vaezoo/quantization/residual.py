r"""Residual quantization: each codebook quantizes the remainder of the ones before it.

$$z = \sum_{d=1}^M e_{i_d}, \qquad i_d = \arg\min_v \|y - e_{i_1} - \dots - e_{i_{d-1}} - e_v\|^2$$
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model
from vaezoo.quantization.codebook import MultiCodebook, encoder_output
from vaezoo.quantization.codes import CodePoint, QuantizedLevel, straight_through


class ResidualEncoder(MultiCodebook):
    """An encoder that replaces each vector by a sum of codes, one of each codebook.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent: (D, *grid).
        depth: M, number of codebooks.
        codes, decay, revival: see `Codebook`.
    """

    def __init__(
        self, network: nn.Module, latent: Sequence[int], depth: int, *, codes: int, decay: float, revival: float
    ) -> None:
        super().__init__(latent[0], [latent[1:]] * depth, codes=codes, decay=decay, revival=revival)
        self.network, self.latent = network, tuple(latent)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point mass on the sums of the chosen codes, with the gradient of `straight_through`."""
        encoded = encoder_output(self.network, x, c)
        levels = self.quantize(encoded)
        return CodePoint(straight_through(encoded, torch.stack([level.codes for level in levels]).sum(0)), levels)

    def quantize(self, rest: Tensor) -> list[QuantizedLevel]:
        """Returns the remainder of `rest` (B, D, *grid) at each codebook, and its codes."""
        levels = []
        for book in self.codebooks():
            levels.append(book.quantize(rest))
            rest = rest - levels[-1].codes
        return levels

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the sums (..., D, *grid) of the codes `indices` (..., N), ordered by codebook."""
        return torch.stack(self.codes_of(indices)).sum(0)

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) that the encoder chooses for z; other indices may have the same sum."""
        rows = z.detach().reshape(-1, *self.latent)
        return CodePoint(rows, self.quantize(rows)).indices.reshape(*z.shape[: z.dim() - len(self.latent)], -1)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Initializes each codebook by k-means on its remainders."""
        with torch.no_grad():
            rest = torch.cat([encoder_output(self.network, x, c) for x, c in batches])
            for book in self.codebooks():
                book.kmeans_init(rest)
                rest = rest - book.quantize(rest).codes
