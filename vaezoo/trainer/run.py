"""What training returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vaezoo.core import VAE
from vaezoo.recipe import Recipe

__all__ = ["Run"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: the model in eval mode, its metrics line by line as in `metrics.jsonl`, and what was noticed.

    Figures are nats per example; None where there is none (a bound on data that the likelihood gives no density).
    """

    model: VAE
    recipe: Recipe
    history: list[dict[str, float | None]]
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    #: how often and from where the run was made longer: step, steps of the last stage before and after, old recipe
    extensions: list[dict[str, object]] = field(default_factory=list)
