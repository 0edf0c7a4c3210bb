"""Clustering accuracy against held-out labels."""

import torch
from torch import Tensor

from vaezoo.core import VAE, as_part, center, evaluating, require, responsibilities
from vaezoo.data import Dataset
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.test_sets import test_set


def cluster(model: VAE, data: object, *, batch_size: int | None = None) -> Tensor:
    """Returns the cluster of every example, (N,) int64: the likeliest component of a mixture prior at q(z|x)'s center.

    Args:
        model: a model whose prior is a mixture, such as `vade`.
        data: the examples, anything that `vaezoo.data.as_dataset` takes; binarized as in training.
        batch_size: number of examples at a time; None for 500, or fewer where examples are large.

    Raises:
        ConfigError: the prior is not a mixture.
    """
    found = []
    with evaluating(model):
        for x, c in batches(model, test_set(model, data), batch_size):
            shares = responsibilities(model.prior(c), center(model.encoder(x, c)))
            if shares is None:
                raise ConfigError(
                    "Got a model whose prior is not a mixture and has no clusters; expected one such as 'vade'. For "
                    "others, cluster representation(model, data) yourself."
                )
            found.append(shares.argmax(-1).cpu())
    return torch.cat(found)


def accuracy_of_clusters(model: VAE, data: Dataset, batch_size: int | None = None) -> float | None:
    """Returns the clustering accuracy of a model on the examples with known labels.

    None if the prior has no clusters, no label is known, or the model has a context, which may contain the class.
    """
    if not as_part(model.prior).has_clusters or model.context or data.labels is None:
        return None
    labels = data.labels.cpu()
    known = labels >= 0
    try:
        return (
            clustering_accuracy(cluster(model, data, batch_size=batch_size)[known], labels[known])
            if bool(known.any())
            else None
        )
    except ConfigError:  # the prior's distribution is not a mixture
        return None


def clustering_accuracy(clusters: Tensor, labels: Tensor) -> float:
    """Returns the share of examples in the cluster of their class, with at most one class for each cluster.

    The assignment of clusters to classes maximizes the share (Kuhn, 1955; solved by scipy), as in Xie et al., 2016,
    https://arxiv.org/abs/1511.06335.

    Args:
        clusters: cluster numbers (N,), integers from 0; there may be more or fewer clusters than classes.
        labels: class numbers (N,), integers from 0.

    Raises:
        ShapeError: shapes or types are wrong, there is no example, or a number is negative.
    """
    pair = (clusters, labels)
    plain = all(each.dim() == 1 and not each.is_floating_point() and len(each) for each in pair)
    if not plain or len(clusters) != len(labels) or min(int(each.min()) for each in pair) < 0:
        raise ShapeError(
            f"Got clusters of type {clusters.dtype} and shape {tuple(clusters.shape)}, labels of type {labels.dtype} "
            f"and shape {tuple(labels.shape)}; expected whole numbers from 0, (N,) each. Take argmax of probabilities."
        )
    crosstab = require("scipy.stats.contingency", "scipy", "Clustering accuracy").crosstab
    counts = crosstab(*(each.numpy(force=True) for each in pair)).count
    best = require("scipy.optimize", "scipy", "Clustering accuracy").linear_sum_assignment(counts, maximize=True)
    return float(counts[best].sum()) / len(labels)
