"""Importance-weighted evidence over a data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.data import Dataset
from vaezoo.errors import ShapeError
from vaezoo.evaluation.batches import batches

__all__ = ["Estimate", "estimate", "evidence", "paired_difference"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over examples and its standard error; None where there is no density."""

    mean: float | None
    error: float | None = None


def estimate(values: Tensor) -> Estimate:
    """Returns the mean of per-example `values` (N,) with its standard error; None when any of them is infinite."""
    if not bool(torch.isfinite(values).all()):
        return Estimate(mean=None)
    values = values.double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(mean=values.mean().item(), error=error)


def evidence(
    model: VAE, data: Dataset, samples: int = 5000, *, seed: int = 0, report: Callable[[int, int], None] | None = None
) -> Tensor:
    """Returns the importance-weighted bound on log p(x) of every example, (N,), nats.

    Args:
        model: in eval mode.
        data: the examples, binarized as they should be.
        samples: K, draws of z per example; the bound rises with K.
        seed: of the draws; the same seed gives the same figures on the same machine.
        report: hears (examples done, examples in all).

    Raises:
        SupportError, NoDensityError: the model has no evidence for these data.
    """
    done, parts = 0, []
    for x, c in batches(model, data, size=100):
        parts.append(model.log_evidence(x, c, samples=samples, seed=seed + done).cpu())
        done += len(x)
        if report is not None:
            report(done, len(data))
    return torch.cat(parts)


def paired_difference(first: Tensor, second: Tensor) -> Estimate:
    """Returns the mean of `first` - `second` with the standard error of that mean over examples.

    Some images are harder than others for every model. That cancels in the difference on the same images, so that its
    standard error is far below those of the two means.

    Args:
        first: a figure of each example under one model, such as `evidence(model, data)`, (N,).
        second: of the same examples, in the same order, under another model, (N,).

    Raises:
        ShapeError: they are not of as many examples, or of none.
    """
    if first.dim() != 1 or first.shape != second.shape or not len(first):
        raise ShapeError(
            f"Got figures of shapes {tuple(first.shape)} and {tuple(second.shape)}; expected (N,) of the same examples."
        )
    return estimate(first.double().cpu() - second.double().cpu())
