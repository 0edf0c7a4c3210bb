"""`Run`, the result of training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vaezoo.core import VAE
from vaezoo.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: the model in eval mode, its metrics as in `metrics.jsonl`, and notes for the user.

    Figures are nats per example; None if undefined, such as a bound on data that have no density.
    """

    model: VAE
    recipe: Recipe
    history: list[dict[str, float | None]]
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    #: extensions of the run: step, steps of the last stage before and after, digest of the old recipe
    extensions: list[dict[str, object]] = field(default_factory=list)
