"""How well clusters agree with classes that nobody told the model."""

from __future__ import annotations

import torch
from torch import Tensor

from vaezoo.core import VAE, as_part, center, responsibilities
from vaezoo.data import Dataset
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.evaluation.batches import batches

__all__ = ["accuracy_of_clusters", "cluster", "clustering_accuracy"]


@torch.no_grad()
def cluster(model: VAE, data: Dataset) -> Tensor:
    """Returns the cluster of every example, (N,) int64: the likeliest component of a mixture prior at q(z|x)'s centre.

    Args:
        model: whose prior is a mixture (it has `responsibilities`), such as `vade`; in eval mode.
        data: the examples, binarized as in training.

    Raises:
        ConfigError: the prior is no mixture.
    """
    found = []
    for x, c in batches(model, data):
        shares = responsibilities(model.prior(c), center(model.encoder(x, c)))
        if shares is None:
            raise ConfigError(
                "Got a model whose prior is no mixture, so that it has no clusters; expected one such as 'vade'. For "
                "others, cluster representation(model, data) yourself."
            )
        found.append(shares.argmax(-1).cpu())
    return torch.cat(found)


def accuracy_of_clusters(model: VAE, data: Dataset) -> float | None:
    """Returns the clustering accuracy of a model whose prior names clusters, by the labels that are known (not -1).

    None where the prior has no clusters (that of `vade` has), no label is known, or the model is given a context, which
    may say the class.

    Raises:
        ShapeError: the set's examples do not have the model's shape.
    """
    if not as_part(model.prior).has_clusters or model.context or data.labels is None:
        return None
    labels = data.labels.cpu()
    known = labels >= 0
    try:
        return clustering_accuracy(cluster(model, data)[known], labels[known]) if bool(known.any()) else None
    except ConfigError:  # a prior whose distribution is no mixture
        return None


def clustering_accuracy(clusters: Tensor, labels: Tensor) -> float:
    """Returns the share of examples in the cluster of their class, each cluster standing for one class at most.

    Which cluster stands for which class is what makes the share largest (the assignment problem; Kuhn, 1955, solved by
    scipy). The measure of Xie et al., 2016, https://arxiv.org/abs/1511.06335, and of papers since.

    Args:
        clusters: cluster numbers (N,), whole numbers from 0; there may be more or fewer than classes.
        labels: class numbers (N,), likewise.

    Raises:
        ShapeError: other shapes or types, no example, or negative numbers.
    """
    pair = (clusters, labels)
    plain = all(each.dim() == 1 and not each.is_floating_point() and len(each) for each in pair)
    if not plain or len(clusters) != len(labels) or min(int(each.min()) for each in pair) < 0:
        raise ShapeError(
            f"Got clusters of type {clusters.dtype} and shape {tuple(clusters.shape)}, labels of type {labels.dtype} "
            f"and shape {tuple(labels.shape)}; expected whole numbers from 0, (N,) each. Take argmax of probabilities."
        )
    from scipy.optimize import linear_sum_assignment  # slow to import, and rarely needed

    rows, columns = (each.unique(return_inverse=True) for each in pair)
    wide, high = len(columns[0]), len(rows[0])
    counts = torch.bincount(rows[1] * wide + columns[1], minlength=high * wide).view(high, wide)
    best = linear_sum_assignment(counts.numpy(force=True), maximize=True)
    return float(counts[tuple(torch.as_tensor(each) for each in best)].sum()) / len(labels)
