r"""Vector quantization with codebooks that are learned by moving averages.

$$z_n = e_{i_n}, \qquad i_n = \arg\min_v \|y_n(x) - e_v\|^2$$
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import normalize

from vaezoo.core import Inference, Model, Part
from vaezoo.networks import check_weights, normal_init
from vaezoo.quantization.codes import (
    CodePoint,
    Gradient,
    QuantizedLevel,
    look_up,
    nearest,
    straight_through,
)
from vaezoo.quantization.table import CodeTable, encoder_output

Distance = Literal["euclidean", "cosine"]

KMEANS_ROWS = 20_000  # encoder outputs for the initialization
KMEANS_ROUNDS = 10
MIN_COUNT = 1e-12  # average count below which the average vector of a code is numerically meaningless


class Codebook(Part):
    r"""V codes, each the moving average of the vectors that chose it as their nearest.

    With the moving averages $n_v$ of the number of vectors that chose code v and $m_v$ of their sum, $e_v = m_v / n_v$
    (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, appendix A.1). Codes are initialized by k-means on the
    first batches. A code whose share falls below `revival` times an equal share is moved to a vector of the batch.

    Args:
        codes: V.
        width: D, elements of a code.
        decay: decay of the moving averages.
        revival: fraction of an equal share below which a code is dead.
        distance: "cosine" normalizes vectors and codes first (Yu et al., 2022, https://arxiv.org/abs/2110.04627).
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(
        self, codes: int, width: int, *, decay: float, revival: float, distance: Distance = "euclidean"
    ) -> None:
        super().__init__()
        check_weights("codebook", [codes * width])
        self.codes, self.width = codes, width
        self.decay, self.revival, self.distance = decay, revival, distance
        codebook = self.project(normal_init(codes, width, scale=width**-0.5))
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", codebook.clone())

    def project(self, vectors: Tensor) -> Tensor:
        """Returns vectors (R, D, …), normalized for the cosine distance."""
        return normalize(vectors, dim=1) if self.distance == "cosine" else vectors

    def quantize(self, encoded: Tensor) -> QuantizedLevel:
        """Returns the nearest codes of `encoded` (B, D, *grid)."""
        encoded = self.project(encoded)
        rows = encoded.detach().movedim(1, -1)
        indices = nearest(self.codebook, rows)
        return QuantizedLevel(encoded, look_up(self.codebook.to(rows.dtype), indices, indices.dim() - 1), indices)

    def kmeans_init(self, encoded: Tensor) -> None:
        """Initializes the codes by k-means on `encoded` (B, D, *grid)."""
        self.codebook.copy_(kmeans(rows_of(self.project(encoded)), self.codebook, self.project))
        self.counts.fill_(1.0)
        self.sums.copy_(self.codebook)

    def batch_statistics(self, level: QuantizedLevel) -> dict[str, Tensor]:
        """Returns counts (V,) and sums (V, D) of the vectors of each code, and replacements (V, D) for dead codes."""
        rows = rows_of(level.encoded.detach())
        counts, sums = gather(rows, level.indices.flatten(), len(self.codebook))
        spare = rows[torch.randint(len(rows), (len(self.codebook),), device=rows.device)]
        return {"counts": counts, "sums": sums, "spare": spare}

    def update(self, statistics: Sequence[Mapping[str, Tensor]]) -> None:
        """Updates the averages and the codes from the statistics of each micro-batch, and revives dead codes."""
        for average, key in ((self.counts, "counts"), (self.sums, "sums")):
            total = torch.stack([each[key] for each in statistics]).sum(0)
            average.lerp_(total.to(average.dtype), 1.0 - self.decay)
        equal = self.counts.mean()
        dead = (self.counts < self.revival * equal)[:, None]
        # Code v takes its vector from micro-batch v mod M, so that the result is the same with several processes.
        places = torch.arange(len(self.codebook), device=self.codebook.device)
        spare = torch.stack([each["spare"] for each in statistics])[places % len(statistics), places]
        self.counts.copy_(torch.where(dead[:, 0], equal, self.counts))
        self.sums.copy_(torch.where(dead, spare * equal, self.sums))
        known = self.counts[:, None] > MIN_COUNT
        self.codebook.copy_(self.project(torch.where(known, self.sums / self.counts[:, None], self.codebook)))


class CodebookEncoder(Codebook, CodeTable):
    """An encoder that replaces each vector of a network's output by the nearest of V codes.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent: (D, *grid).
        gradient: gradient of the quantization, see `straight_through`.
        codes, decay, revival, distance: see `Codebook`.
    """

    def __init__(
        self,
        network: nn.Module,
        latent: Sequence[int],
        *,
        codes: int,
        decay: float,
        revival: float,
        distance: Distance = "euclidean",
        gradient: Gradient = "straight-through",
    ) -> None:
        super().__init__(codes, latent[0], decay=decay, revival=revival, distance=distance)
        self.describe(network, latent, codes)
        self.gradient = gradient

    def table(self) -> Tensor:
        """Returns the codes (V, D)."""
        return self.codebook

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point mass on the chosen codes, with the gradient of `straight_through`."""
        level = self.quantize(encoder_output(self.network, x, c))
        return CodePoint(passed(self, level, self.gradient), [level])

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Initializes the codes by k-means on the network's outputs."""
        with torch.no_grad():
            self.kmeans_init(torch.cat([encoder_output(self.network, x, c) for x, c in batches]))

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns the statistics for `after_step`."""
        return self.batch_statistics(cast(CodePoint, inference.posterior).levels[0])

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Updates the codes."""
        self.update(statistics)


def rows_of(encoded: Tensor) -> Tensor:
    """Returns the vectors (R, D) of `encoded` (B, D, *grid)."""
    return encoded.movedim(1, -1).reshape(-1, encoded.shape[1])


def gather(rows: Tensor, indices: Tensor, codes: int) -> tuple[Tensor, Tensor]:
    """Returns counts (V,) and sums (V, D) of `rows` (R, D) with the same of `indices` (R,)."""
    counts = torch.bincount(indices, minlength=codes).to(rows.dtype)
    return counts, rows.new_zeros(codes, rows.shape[1]).index_add_(0, indices, rows)


def kmeans(rows: Tensor, codebook: Tensor, project: Callable[[Tensor], Tensor] = lambda vectors: vectors) -> Tensor:
    """Returns as many centers of `rows` (R, D) as `codebook` (V, D) has codes, in its type; `project`: see `Codebook`.

    The rows are up to 20,000 chosen at random; the first centers are rows with a little noise.
    """
    rows = rows[torch.randperm(len(rows), device=rows.device)[:KMEANS_ROWS]]
    codes = len(codebook)
    centers = rows[torch.arange(codes, device=rows.device) % len(rows)].to(codebook.dtype)
    centers = centers + 1e-4 * rows.std(correction=0) * torch.randn_like(centers)
    for _ in range(KMEANS_ROUNDS):
        counts, sums = gather(rows, nearest(centers, rows), codes)
        used = counts[:, None] > 0
        centers = project(torch.where(used, sums / counts[:, None].clamp(min=1.0), centers).to(codebook.dtype))
    return centers


def passed(encoder: nn.Module, level: QuantizedLevel, gradient: Gradient) -> Tensor:
    """Returns the latent (B, D, *grid) of a level with the gradient of `straight_through`; in eval mode its codes."""
    return straight_through(level.encoded, level.codes, gradient if encoder.training else "straight-through")
