"""How often a model that tells classes is wrong."""

from __future__ import annotations

import torch

from vaezoo.core import VAE, as_part
from vaezoo.data import Dataset
from vaezoo.evaluation.batches import batches

__all__ = ["label_error"]


@torch.no_grad()
def label_error(model: VAE, data: Dataset) -> float | None:
    """Returns the share of examples whose class `model.encoder.classify` does not tell; unknown ones (-1) are left out.

    None where the model tells no classes or no label is known.

    Raises:
        ShapeError: the set's examples do not have the model's shape.
    """
    if data.labels is None or not bool((data.labels >= 0).any()):
        return None
    found = []
    for x, _ in batches(model, data):
        if (classes := as_part(model.encoder).classify(x)) is None:
            return None
        found.append(classes.cpu())
    labels = data.labels.cpu()
    return (torch.cat(found) != labels)[labels >= 0].double().mean().item()
