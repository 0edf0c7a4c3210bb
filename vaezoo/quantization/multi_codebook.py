r"""Encoders with several codebooks: of the remainders of the codebooks before, of groups of channels, and of two grids.

Residual: $z = \sum_{d=1}^M e_{i_d}$ with $i_d = \arg\min_v \|y - e_{i_1} - \dots - e_{i_{d-1}} - e_v\|^2$. Two grids:
$y_t = f_t(h(x))$ and $y_b = h(x) + g(e_t)$ (Razavi et al., 2019, https://arxiv.org/abs/1906.00446).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Inference, Model, Part
from vaezoo.errors import ShapeError
from vaezoo.networks import Network
from vaezoo.quantization.codebook import Codebook, Distance, passed
from vaezoo.quantization.codes import (
    CodePoint,
    Gradient,
    QuantizedLevel,
    look_up,
    nearest,
    nearest_indices,
    straight_through,
)
from vaezoo.quantization.table import encoder_output

CHAINS = 64  # partial sums that the search for the indices of a sum keeps
CHAIN_ROWS = 256  # vectors that are searched at a time
Grids = tuple[tuple[int, ...], tuple[int, ...]]


class MultiCodebook(Part):
    """Base of encoders with several codebooks of V codes, each with its own grid, coarsest first.

    Args:
        width: D, elements of a code.
        grids: grid of each level, such as [(4, 4), (7, 7)].
        codes, decay, revival, distance: see `Codebook`.
    """

    knows_density = False

    def __init__(
        self,
        width: int,
        grids: Sequence[Sequence[int]],
        *,
        codes: int,
        decay: float,
        revival: float,
        distance: Distance = "euclidean",
    ) -> None:
        super().__init__()
        self.codes, self.grids = codes, tuple(tuple(grid) for grid in grids)
        self.sections = tuple(math.prod(grid) for grid in grids)
        self.index_shape = (sum(self.sections),)
        books = (Codebook(codes, width, decay=decay, revival=revival, distance=distance) for _ in grids)
        self.levels = nn.ModuleList(books)

    def codebooks(self) -> list[Codebook]:
        """Returns the codebooks."""
        return [cast(Codebook, level) for level in self.levels]

    def codes_of(self, indices: Tensor) -> list[Tensor]:
        """Returns the codes (..., D, *grid) of each level for `indices` (..., N) of all levels."""
        parts = zip(self.codebooks(), self.grids, indices.split(self.sections, -1), strict=True)
        return [look_up(book.codebook, part.reshape(*part.shape[:-1], *grid), len(grid)) for book, grid, part in parts]

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns the statistics for `after_step`, keyed by level."""
        levels = zip(self.codebooks(), cast(CodePoint, inference.posterior).levels, strict=True)
        each = [book.batch_statistics(level) for book, level in levels]
        return {f"{place}.{key}": value for place, own in enumerate(each) for key, value in own.items()}

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Updates the codes of all levels."""
        for place, book in enumerate(self.codebooks()):
            prefix = f"{place}."
            book.update([
                {key.removeprefix(prefix): value for key, value in each.items() if key.startswith(prefix)}
                for each in statistics
            ])  # fmt: skip


class ResidualEncoder(MultiCodebook):
    """An encoder that replaces each vector by a sum of codes, one of each codebook.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent: (D, *grid).
        depth: M, number of codebooks.
        gradient: gradient of the quantization, see `straight_through`.
        codes, decay, revival: see `Codebook`.
    """

    def __init__(
        self,
        network: nn.Module,
        latent: Sequence[int],
        depth: int,
        *,
        codes: int,
        decay: float,
        revival: float,
        gradient: Gradient = "straight-through",
    ) -> None:
        super().__init__(latent[0], [latent[1:]] * depth, codes=codes, decay=decay, revival=revival)
        self.network, self.latent, self.index_shape = network, tuple(latent), (depth, *latent[1:])
        self.gradient = gradient

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point mass on the sums of the chosen codes, with the gradient of `straight_through`."""
        encoded = encoder_output(self.network, x, c)
        levels = self.quantize(encoded)
        whole = QuantizedLevel(encoded, torch.stack([level.codes for level in levels]).sum(0), levels[0].indices)
        return CodePoint(passed(self, whole, self.gradient), levels)

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
        """Returns the indices (..., N) of the codes that sum to z (..., D, *grid), by codebook; see `chains`."""
        vectors = z.detach().movedim(-len(self.latent), -1)
        books = [book.codebook.to(vectors.dtype) for book in self.codebooks()]
        rows = vectors.reshape(-1, vectors.shape[-1]).split(CHAIN_ROWS)
        found = torch.cat([chains(books, each) for each in rows]).view(*vectors.shape[:-1], len(books))
        return found.movedim(-1, -len(self.latent)).flatten(-len(self.latent))

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Initializes each codebook by k-means on its remainders."""
        with torch.no_grad():
            rest = torch.cat([encoder_output(self.network, x, c) for x, c in batches])
            for book in self.codebooks():
                book.kmeans_init(rest)
                rest = rest - book.quantize(rest).codes


class GroupedEncoder(MultiCodebook):
    """An encoder that quantizes G groups of channels, each with a codebook of its own: V^G codes in all.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent: (D, *grid).
        groups: G, which divides D.
        gradient: gradient of the quantization of each group, see `straight_through`.
        codes, decay, revival, distance: see `Codebook`.

    Raises:
        ShapeError: D is no multiple of G.
    """

    def __init__(
        self,
        network: nn.Module,
        latent: Sequence[int],
        groups: int,
        *,
        codes: int,
        decay: float,
        revival: float,
        distance: Distance = "euclidean",
        gradient: Gradient = "straight-through",
    ) -> None:
        if latent[0] % groups:
            raise ShapeError(
                f"Got latent = {list(latent)}; {groups} groups expected a multiple of {groups} as its first size. "
                "Choose another first size or another number of groups."
            )
        width, grids = latent[0] // groups, [latent[1:]] * groups
        super().__init__(width, grids, codes=codes, decay=decay, revival=revival, distance=distance)
        self.network, self.latent, self.index_shape = network, tuple(latent), (groups, *latent[1:])
        self.gradient = gradient

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point mass on the chosen codes of all groups."""
        groups = encoder_output(self.network, x, c).chunk(len(self.grids), 1)
        levels = [book.quantize(group) for book, group in zip(self.codebooks(), groups, strict=True)]
        return CodePoint(torch.cat([passed(self, level, self.gradient) for level in levels], 1), levels)

    def look_up(self, indices: Tensor) -> Tensor:
        """Returns the codes (..., D, *grid) of `indices` (..., N), ordered by group."""
        return torch.cat(self.codes_of(indices), -len(self.latent))

    def indices_of(self, z: Tensor) -> Tensor:
        """Returns the indices (..., N) of the codes nearest to z (..., D, *grid), ordered by group."""
        parts = zip(self.codebooks(), z.chunk(len(self.grids), -len(self.latent)), strict=True)
        return torch.cat([nearest_indices(book.codebook, part, self.latent) for book, part in parts], -1)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Initializes each codebook by k-means on its group of channels."""
        with torch.no_grad():
            groups = torch.cat([encoder_output(self.network, x, c) for x, c in batches]).chunk(len(self.grids), 1)
            for book, group in zip(self.codebooks(), groups, strict=True):
                book.kmeans_init(group)


def chains(books: Sequence[Tensor], rows: Tensor) -> Tensor:
    """Returns for each of `rows` (R, D) one index of each of M codebooks (V, D), whose codes sum to it, (R, M).

    The encoder's own choices minimize the distance of each partial sum to its input, which the sum does not determine;
    the nearest codes of the sum itself may be others. Therefore the search keeps the `CHAINS` nearest partial sums.
    """
    rest, found = rows[:, None], rows.new_zeros(len(rows), 1, 0, dtype=torch.int64)
    for book in books:
        distance = rest.square().sum(-1, keepdim=True) - 2.0 * rest @ book.T + book.square().sum(1)  # (R, chains, V)
        kept = distance.flatten(1).topk(min(CHAINS, distance[0].numel()), largest=False).indices
        parent, code = (kept // len(book)).unsqueeze(-1), kept % len(book)
        found = torch.cat([found.take_along_dim(parent, 1), code.unsqueeze(-1)], -1)
        rest = rest.take_along_dim(parent, 1) - book[code]
    best = rest.square().sum(-1).argmin(1)  # from differences, which are exact at 0
    return found[torch.arange(len(rows), device=rows.device), best]


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
