"""Importance-weighted evidence over a data set."""

from collections.abc import Callable

import torch
from torch import Tensor

from vaezoo.core import VAE, evaluating
from vaezoo.data import Dataset
from vaezoo.evaluation.batches import batches


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
