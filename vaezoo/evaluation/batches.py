"""Batches of a data set for a model, validated."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vaezoo.core import VAE, rows_at_once, whole_number
from vaezoo.data import Dataset
from vaezoo.errors import ContextError, ShapeError


def context_of(model: VAE, data: Dataset) -> Tensor | None:
    """Returns the contexts of a data set that the model needs: vectors (N, C), labels (N,), or None.

    None also for a model that infers the class of an example (`m2-vae`): its figures, reconstructions and latents are
    those of examples whose label is unknown.

    Raises:
        ContextError: the model is conditional and the set has neither context nor labels.
    """
    if not model.context or model.takes_unlabelled:
        return None
    if data.context is not None:
        return data.context
    if data.labels is None:
        raise ContextError(
            f"The model needs a context of width {model.context}, but {data.name!r} has no labels. Pass (x, c) instead."
        )
    return data.labels


def batches(
    model: VAE, data: Dataset, size: int | None = None, start: int = 0
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yields (x, c) on the model's device, x (B, *shape) in the model's dtype.

    Args:
        model: the model.
        data: the examples.
        size: B; None for 500, or fewer where examples are large.
        start: number of examples at the beginning that are left out.

    Raises:
        ShapeError: the set's examples do not have the model's shape.
    """
    if model.shape is not None and data.shape != model.shape:
        options = ""
        if len(data.shape) == len(model.shape) == 3:
            channels = {1: ", channels='gray'", 3: ", channels='color'"}.get(model.shape[0], "")
            options = f" Convert images with load_dataset(…, size={list(model.shape[1:])}{channels})."
        raise ShapeError(
            f"Got {data.name!r} with examples of shape {data.shape}; the model expects {model.shape}.{options}"
        )
    device = next(model.parameters()).device
    context = context_of(model, data)
    rows = rows_at_once(data.shape) if size is None else whole_number(size, "batch_size", 1)
    parts = torch.arange(start, len(data)).split(rows) if start < len(data) else ()
    for indices, x in zip(parts, data.batches(parts), strict=True):
        yield model.check(x.to(device), None if context is None else context[indices].to(device))
