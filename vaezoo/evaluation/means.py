"""`Estimate`: a mean over examples with its standard error. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over examples and its standard error; None where there is no density."""

    mean: float | None
    error: float | None = None

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """Returns the mean of per-example `values` (N,) with its standard error; None if any of them is infinite."""
        if not bool(values.isfinite().all()):
            return cls(mean=None)
        values = values.double()
        error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
        return cls(mean=values.mean().item(), error=error)
