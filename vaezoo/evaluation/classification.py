"""Classification error."""

import torch

from vaezoo.core import VAE, as_part, evaluating
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.test_sets import test_set


def label_error(model: VAE, data: object, *, batch_size: int | None = None) -> float | None:
    """Returns the share of examples that `model.encoder.classify` misclassifies; unknown labels (-1) are left out.

    None for a model that does not classify, or if no label is known.
    """
    chosen = test_set(model, data)
    if chosen.labels is None or not bool((chosen.labels >= 0).any()):
        return None
    found = []
    with evaluating(model):
        for x, _ in batches(model, chosen, batch_size):
            if (classes := as_part(model.encoder).classify(x)) is None:
                return None
            found.append(classes.cpu())
    labels = chosen.labels.cpu()
    return (torch.cat(found) != labels)[labels >= 0].double().mean().item()
