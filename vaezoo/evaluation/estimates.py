"""Importance-weighted evidence over a data set."""

from collections.abc import Callable

import torch
from torch import Tensor

from vaezoo.core import VAE, evaluating
from vaezoo.data import Dataset
from vaezoo.errors import ShapeError
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.metric import Estimate


def evidence(
    model: VAE, data: Dataset, samples: int = 5000, *, seed: int = 0, report: Callable[[int, int], None] | None = None
) -> Tensor:
    """Returns the importance-weighted bound on log p(x) of every example, (N,), nats.

    Args:
        model: the model; measured in eval mode.
        data: the examples, binarized as they should be.
        samples: K, the number of samples of z per example; the bound rises with K.
        seed: seed of the samples; the same seed gives the same values on the same machine.
        report: called with (examples done, all examples).

    Raises:
        SupportError, NoDensityError: the model has no evidence for these data.
    """
    done, parts = 0, []
    with evaluating(model):
        for x, c in batches(model, data, size=100):
            parts.append(model.log_evidence(x, c, samples=samples, seed=seed + done).cpu())
            done += len(x)
            if report is not None:
                report(done, len(data))
    return torch.cat(parts)


def paired_difference(first: Tensor, second: Tensor) -> Estimate:
    """Returns the mean of `first` - `second` with the standard error of that mean over examples.

    Some images are harder than others for every model. This cancels in the difference on the same images, so that its
    standard error is far below those of the two means.

    Args:
        first: values of each example under one model, such as `evidence(model, data)`, (N,).
        second: those of the same examples, in the same order, under another model.

    Raises:
        ShapeError: the shapes differ or are empty.
    """
    if first.dim() != 1 or first.shape != second.shape or not len(first):
        raise ShapeError(
            f"Got figures of shapes {tuple(first.shape)} and {tuple(second.shape)}; expected (N,) of the same examples."
        )
    return Estimate.of(first.double().cpu() - second.double().cpu())
