"""Importance-weighted evidence over a data set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import VAE, evaluating, rows_at_once, whole_number, whole_seed
from vaezoo.data import Dataset
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.test_sets import test_set


def evidence(
    model: VAE,
    data: object,
    samples: int = 5000,
    *,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Returns the importance-weighted bound on log p(x) of every example, (N,), nats.

    Args:
        model: the model; measured in eval mode.
        data: the examples, anything that `vaezoo.data.as_dataset` takes; binarized as in training.
        samples: K, the number of samples of z per example; the bound rises with K.
        seed: seed of the samples; the same seed gives the same values on the same machine.
        report: called with (draws done, all draws), which are examples × K.
        batch_size: number of examples at a time, on which the noise depends; None for 100, or fewer where examples
            are large.

    Raises:
        SupportError, NoDensityError: the model has no evidence for these data.
    """
    seed, rows = whole_seed(seed), None if batch_size is None else whole_number(batch_size, "batch_size", 1)
    return importance(model, test_set(model, data), samples, seed=seed, report=report, batch_size=rows)[0]


@contextmanager
def counted(model: VAE, total: int, report: Callable[[int, int], None] | None) -> Iterator[Callable[[int], None]]:
    """Calls `report` with (draws done, total) after each call of the decoder, which decodes a part of a batch.

    Yields a function that sets the number of draws done, after a batch.
    """
    done = 0

    def reached(draws: int) -> None:
        nonlocal done
        done = draws
        if report is not None:
            report(done, total)

    def decoded(_module: nn.Module, _args: object, likelihood: Distribution) -> None:
        if (draws := done + likelihood.batch_shape.numel()) < total:  # the last number comes after the last batch
            reached(draws)

    hook = model.decoder.register_forward_hook(decoded) if report and isinstance(model.decoder, nn.Module) else None
    try:
        yield reached
    finally:
        if hook is not None:
            hook.remove()


def importance(
    model: VAE,
    data: Dataset,
    samples: int,
    *,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Returns `evidence`, (N,), nats, and the effective sample size of its weights, (N,), from 1 to K."""
    done, parts = 0, []
    rows = batch_size or rows_at_once(data.shape, 100)
    with evaluating(model), counted(model, samples * len(data), report) as reached:
        for x, c in batches(model, data, rows):
            parts.append(torch.stack(model.importance(x, c, samples=samples, seed=seed + done)).cpu())
            done += len(x)
            reached(samples * done)
    log_evidence, size = torch.cat(parts, 1)
    return log_evidence, size
