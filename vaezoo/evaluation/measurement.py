"""`Measurement`: a model on a data set, with the tensors that several metrics use. Imports no torch by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from torch import Tensor

    from vaezoo.core import ELBO, VAE
    from vaezoo.data import Dataset


class Terms(NamedTuple):
    """Bound, distortion and rate (nats), and mean squared error of the reconstruction of each example, (N,) each."""

    bound: Tensor
    distortion: Tensor
    rate: Tensor
    squared_error: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """A model, in eval mode, on a data set. Tensors are computed on first use and shared by all metrics.

    Args:
        model: the model.
        data: the examples, as `test_set` returns them.
        samples: K of the importance-weighted evidence; 0 for none.
        seed: seed of all noise.
        report: called with (examples done, all examples) while the evidence is computed.
    """

    model: VAE
    data: Dataset
    samples: int
    seed: int = 0
    report: Callable[[int, int], None] | None = None

    @cached_property
    def terms(self) -> Terms:
        """Terms of the ELBO, and reconstruction errors."""
        import torch

        from vaezoo.core import seeded
        from vaezoo.evaluation.batches import batches

        rows: list[Tensor] = []
        with seeded(self.seed, next(self.model.parameters()).device):
            for x, c in batches(self.model, self.data):
                elbo = cast("ELBO", self.model(x, c))
                error = (self.model.reconstruct(x, c) - x).square().flatten(1).mean(1)
                rows.append(torch.stack([elbo.bound, elbo.distortion, elbo.rate, error]).cpu())
        return Terms(*torch.cat(rows, 1))

    @cached_property
    def evidences(self) -> Tensor | None:
        """Importance-weighted evidences (N,), nats; None if x has no density under the likelihood or K = 0."""
        from vaezoo.evaluation.estimates import evidence

        if self.samples == 0 or not bool(self.terms.bound.isfinite().all()):
            return None
        return evidence(self.model, self.data, self.samples, seed=self.seed, report=self.report)

    @property
    def codes(self) -> Tensor | None:
        """Code indices (N, *grid), int64; None for a model without codes."""
        return self._encoded[0]

    @property
    def centers(self) -> Tensor | None:
        """Centers of the posteriors, flattened, (N, D); None for a model of codes."""
        return self._encoded[1]

    @cached_property
    def _encoded(self) -> tuple[Tensor | None, Tensor | None]:
        import torch

        from vaezoo.core import center, code_indices
        from vaezoo.evaluation.batches import batches

        codes: list[Tensor] = []
        centers: list[Tensor] = []
        for x, c in batches(self.model, self.data):
            posterior = self.model.encoder(x, c)
            if (indices := code_indices(posterior)) is not None:
                codes.append(indices)
            else:
                centers.append(center(posterior).flatten(1))
        return (torch.cat(codes), None) if codes else (None, torch.cat(centers))
