r"""Encoder and decoder network of codes on two grids, where the fine codes depend on the coarse ones.

$$y_t = f_t(h(x)), \qquad y_b = h(x) + g(e_t)$$

References:
    Razavi et al. (2019), https://arxiv.org/abs/1906.00446
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model
from vaezoo.networks import Network
from vaezoo.quantization.codebook import MultiCodebook, encoder_output
from vaezoo.quantization.codes import CodePoint, QuantizedLevel, nearest, straight_through

Grids = tuple[tuple[int, ...], tuple[int, ...]]


def grids_of(grid: Callable[[Sequence[int], int], tuple[int, ...]], shape: Sequence[int], width: int) -> Grids:
    """Returns the coarse and the fine grid of a backbone for x of `shape`.

    Args:
        grid: returns the backbone's (channels, *grid) for an input shape and a number of channels.
        shape: the event shape of x.
        width: channels, the elements of a code.
    """
    fine = tuple(grid(shape, width))
    return tuple(grid(fine, width)[1:]), fine[1:]


class TwoGridEncoder(MultiCodebook):
    """An encoder that quantizes features on a coarse grid, and then features on a fine grid given the coarse codes.

    Args:
        bottom: h, maps x and c to (B, 1, D, *fine grid).
        top: f_t, maps the output of `bottom` to (B, 1, D, *coarse grid).
        back: g, maps coarse codes to (B, 1, D, *fine grid).
        latent: (D, N), coarse positions first.
        grids: the coarse grid and the fine grid.
        codes, decay, revival: see `Codebook`.
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
        """Returns the point mass on the codes of both grids, with the gradient of `straight_through`."""
        features = encoder_output(self.bottom, x, c)
        top = self.codebooks()[0].quantize(encoder_output(self.top, features, c))
        bottom = self.codebooks()[1].quantize(self.fine_features(features, top, c))
        levels = [top, bottom]
        return CodePoint(self.join([straight_through(level.encoded, level.codes) for level in levels]), levels)

    def fine_features(self, features: Tensor, top: QuantizedLevel, c: Tensor | None) -> Tensor:
        """Returns the features that the fine codes quantize, (B, D, *fine grid): h(x) + g(e_t)."""
        return features + encoder_output(self.back, straight_through(top.encoded, top.codes), c)

    def join(self, values: Sequence[Tensor]) -> Tensor:
        """Returns values (..., D, *grid) of both grids as (..., D, N)."""
        return torch.cat([each.flatten(-len(grid)) for each, grid in zip(values, self.grids, strict=True)], -1)

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the codes (..., D, N) of `indices` (..., N)."""
        return self.join(self.codes_of(indices))

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) of the codes nearest to z (..., D, N)."""
        parts = zip(self.codebooks(), z.mT.split(self.sections, -2), strict=True)
        return torch.cat([nearest(book.codebook, part) for book, part in parts], -1)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Initializes the coarse codes by k-means, then the fine ones given the coarse ones."""
        first, second = self.codebooks()
        with torch.no_grad():
            features = [encoder_output(self.bottom, x, c) for x, c in batches]
            contexts = [c for _, c in batches]
            coarse = [encoder_output(self.top, each, c) for each, c in zip(features, contexts, strict=True)]
            first.kmeans_init(torch.cat(coarse))
            levels = zip(features, map(first.quantize, coarse), contexts, strict=True)
            second.kmeans_init(torch.cat([self.fine_features(*each) for each in levels]))


class TwoGridNetwork(nn.Module):
    """A network from codes z (..., D, N) on two grids to the parameters of a likelihood.

    Coarse codes are upsampled to the fine grid and concatenated with the fine codes.

    Args:
        back: maps (..., D, *coarse grid) to (..., 1, D, *fine grid).
        up: maps (..., 2 D, *fine grid) to (..., P, *shape).
        grids: the coarse grid and the fine grid.
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
        """Sets the last bias so that a zero input gives `output`."""
        self.up.set_output_bias(output)
