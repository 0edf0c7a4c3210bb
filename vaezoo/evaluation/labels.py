"""How often a model that tells classes is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from vaezoo.core import VAE
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
    classify = getattr(model.encoder, "classify", None)
    if classify is None or data.labels is None or not bool((data.labels >= 0).any()):
        return None
    tell = cast(Callable[[Tensor], Tensor], classify)
    found = torch.cat([tell(x).cpu() for x, _ in batches(model, data)])
    labels = data.labels.cpu()
    return (found != labels)[labels >= 0].double().mean().item()
