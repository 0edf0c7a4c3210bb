"""Representations of data by a model or by any function, one row for each example."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import VAE, check_model, code_indices, evaluating, mean_or_center, rows_at_once
from vaezoo.data import Dataset, as_dataset
from vaezoo.errors import DataError, ShapeError
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.test_sets import test_set

Encode = Callable[[Tensor], "Tensor | Distribution"]


def representation(model: VAE | Encode, data: object, *, size: int | None = None) -> Tensor:
    """Returns the representation of every example of a set, (N, D), float64, on the CPU.

    Args:
        model: a model, represented by the means of its posteriors, or their centers
            where the mean has no closed form; or any function of x (B, *shape), `float32` in
            [0, 1], that returns a tensor (B, …) or a distribution, represented in the same way.
        data: the examples, anything that `vaezoo.data.as_dataset` takes; for a model binarized as in training.
        size: number of examples that are encoded at a time; None for 500, or fewer where examples are large.

    Raises:
        ShapeError: the function does not return a row for each example, or the latents are discrete codes.
        DataError: the representation is not finite.
    """
    chosen = data_for(model, data)
    with torch.no_grad(), evaluating(*([model] if isinstance(model, nn.Module) else [])):
        if isinstance(model, VAE):
            rows = [rows_of(model.encoder(x, c), len(x)) for x, c in batches(model, chosen, size)]
        else:
            parts = torch.arange(len(chosen)).split(size or rows_at_once(chosen.shape))
            rows = [rows_of(model(x), len(x)) for x in chosen.batches(parts)]
    means = torch.cat(rows)
    if not bool(torch.isfinite(means).all()):
        raise DataError("Got NaN or infinite values in the representation; expected finite ones. Inspect the model.")
    return means


class Embeddings(NamedTuple):
    """Representations of examples (N, D), float64, with the examples' names (N,) and labels (N,), or None."""

    values: Tensor
    names: tuple[str, ...] | None
    labels: Tensor | None


def embed(model: VAE | Encode, data: object, *, size: int | None = None) -> Embeddings:
    """Returns the representation of every example with its name, such as the file in a folder, and its label.

    Arguments and exceptions as in `representation`.
    """
    chosen = data_for(model, data)
    names = None if chosen.names is None else tuple(chosen.names)
    return Embeddings(representation(model, chosen, size=size), names, chosen.labels)


def data_for(model: VAE | Encode, data: object) -> Dataset:
    """Returns data as a model expects them, or as they are for a function; raises ConfigError for neither."""
    if not callable(model):
        check_model(model)
    return test_set(model, data) if isinstance(model, VAE) else as_dataset(data, "test")


def rows_of(given: object, count: int) -> Tensor:
    """Returns the output of an encoder for `count` examples as (B, D), float64."""
    if isinstance(given, Distribution) and code_indices(given) is not None:
        raise ShapeError("Got a model of discrete codes; expected continuous latents, whose values have an order.")
    found = mean_or_center(given) if isinstance(given, Distribution) else given
    if not isinstance(found, Tensor) or found.dim() < 2 or len(found) != count:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ShapeError(f"Got {shape} as representation of {count} examples; expected a row for each, ({count}, D).")
    return found.flatten(1).double().cpu()
