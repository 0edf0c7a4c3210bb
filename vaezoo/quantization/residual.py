"""The encoder that quantizes residuals in several stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model
from vaezoo.quantization.codebook import MultiCodebook, encoded_by
from vaezoo.quantization.codes import CodePoint, Level, straight_through


class ResidualEncoder(MultiCodebook):
    """Replaces each vector by a code, what is left of it by a code of a second codebook, and so on."""

    def __init__(
        self, network: nn.Module, latent: Sequence[int], depth: int, *, codes: int, decay: float, revival: float
    ) -> None:
        super().__init__(latent[0], [latent[1:]] * depth, codes=codes, decay=decay, revival=revival)
        self.network, self.latent = network, tuple(latent)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the sums of the chosen codes; in gradients they count as the encoder's output."""
        encoded = encoded_by(self.network, x, c)
        levels = self.split(encoded)
        return CodePoint(straight_through(encoded, torch.stack([level.codes for level in levels]).sum(0)), levels)

    def split(self, rest: Tensor) -> list[Level]:
        """Returns what each codebook was given of `rest` (B, D, *grid), and made of it."""
        levels = []
        for book in self.codebooks():
            levels.append(book.quantize(rest))
            rest = rest - levels[-1].codes
        return levels

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the sums (..., D, *grid) of the codes `indices` (..., N), one codebook after the other."""
        return torch.stack(self.codes_of(indices)).sum(0)

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) that the encoder chooses for z; others may have the same sum."""
        rows = z.detach().reshape(-1, *self.latent)
        return CodePoint(rows, self.split(rows)).indices.reshape(*z.shape[: z.dim() - len(self.latent)], -1)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Puts each codebook on k-means centres of what is left for it."""
        with torch.no_grad():
            rest = torch.cat([encoded_by(self.network, x, c) for x, c in batches])
            for book in self.codebooks():
                book.kmeans_init(rest)
                rest = rest - book.quantize(rest).codes
