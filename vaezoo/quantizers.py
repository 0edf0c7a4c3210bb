"""Encoders whose posterior is a point mass on codes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.distributions import CodePoint, full_precision, look_up
from vaezoo.elbo import Inference, Model, Part
from vaezoo.networks import check_weights

__all__ = ["CodebookEncoder"]

KMEANS_ROWS = 20_000  # encoder outputs that the start is fitted on
KMEANS_ROUNDS = 10
FORGOTTEN = 1e-12  # average count under which a code has not been chosen for so long that its average says nothing


class CodebookEncoder(Part):
    r"""Replaces each vector of the encoder's output by the nearest of V codes, which follow by moving averages.

    With $n_v$ and $m_v$ the averages of how many vectors chose code v and of their sum, $e_v = m_v / n_v$ (van den Oord
    et al., 2017, https://arxiv.org/abs/1711.00937, appendix A.1). Codes start at k-means centres of the first batches,
    and a code whose share falls under `revival` of an equal share is moved to a vector of the batch.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, D, *grid).
        latent: (D, *grid).
        codes: V. decay: of the moving averages. revival: share of an equal share under which a code is dead.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, network: nn.Module, latent: Sequence[int], *, codes: int, decay: float, revival: float) -> None:
        super().__init__()
        self.network = network
        self.latent = tuple(latent)
        self.decay, self.revival = decay, revival
        check_weights("codebook", [codes * latent[0]])
        codebook = torch.randn(codes, latent[0]) / math.sqrt(latent[0])
        self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", codebook.clone())

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the chosen codes; in gradients they count as the encoder's output (straight-through)."""
        encoded = full_precision(self.network(x, c)).squeeze(1)
        rows = encoded.detach().movedim(1, -1)
        indices = self.nearest(rows.reshape(-1, self.latent[0])).reshape(rows.shape[:-1])
        codes = look_up(self.codebook.to(rows.dtype), indices, len(self.latent) - 1)
        # Exactly the codes: codes + 0, with the gradient of what is encoded.
        return CodePoint(codes + (encoded - encoded.detach()), indices, encoded)

    def nearest(self, rows: Tensor) -> Tensor:
        """Returns the index of the nearest code of each of `rows` (R, D), (R,) int64."""
        codebook = self.codebook.to(rows.dtype)
        return torch.addmm(codebook.square().sum(1), rows, codebook.T, alpha=-2.0).argmin(1)

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Puts the codes on k-means centres of the encoder's outputs."""
        with torch.no_grad():
            rows = torch.cat([self._rows(full_precision(self.network(x, c)).squeeze(1)) for x, c in batches])
            rows = rows[torch.randperm(len(rows), device=rows.device)[:KMEANS_ROWS]]
            codes = len(self.codebook)
            self.codebook.copy_(rows[torch.arange(codes, device=rows.device) % len(rows)])
            self.codebook += 1e-4 * rows.std(correction=0) * torch.randn_like(self.codebook)
            for _ in range(KMEANS_ROUNDS):
                counts, sums = self._gather(rows, self.nearest(rows))
                used = counts[:, None] > 0
                self.codebook.copy_(torch.where(used, sums / counts[:, None].clamp(min=1.0), self.codebook))
            self.counts.fill_(1.0)
            self.sums.copy_(self.codebook)

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns how often each code was chosen (V,), the sums (V, D), and vectors (V, D) for dead codes."""
        posterior = cast(CodePoint, inference.posterior)
        rows = self._rows(posterior.encoded.detach())
        counts, sums = self._gather(rows, posterior.indices.flatten())
        spare = rows[torch.randint(len(rows), (len(self.codebook),), device=rows.device)]
        return {"counts": counts, "sums": sums, "spare": spare}

    def after_step(self, seen: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Moves the averages and the codes, and revives dead ones."""
        for average, key in ((self.counts, "counts"), (self.sums, "sums")):
            total = torch.stack([each[key] for each in seen]).sum(0)
            average.lerp_(total.to(average.dtype), 1.0 - self.decay)
        equal = self.counts.mean()
        dead = (self.counts < self.revival * equal)[:, None]
        # Code v takes its vector from micro-batch v mod M: the same whether one process or several saw them.
        turns = torch.arange(len(self.codebook), device=self.codebook.device)
        spare = torch.stack([each["spare"] for each in seen])[turns % len(seen), turns]
        self.counts.copy_(torch.where(dead[:, 0], equal, self.counts))
        self.sums.copy_(torch.where(dead, spare * equal, self.sums))
        known = self.counts[:, None] > FORGOTTEN
        self.codebook.copy_(torch.where(known, self.sums / self.counts[:, None], self.codebook))

    def _rows(self, encoded: Tensor) -> Tensor:
        return encoded.movedim(1, -1).reshape(-1, self.latent[0])

    def _gather(self, rows: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(indices, minlength=len(self.codebook)).to(rows.dtype)
        return counts, rows.new_zeros(self.codebook.shape).index_add_(0, indices, rows)
