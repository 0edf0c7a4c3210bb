"""Accuracy of simple classifiers of the latents: a linear one, and a vote of the nearest neighbors."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from vaezoo.core import VAE, as_number, whole_number
from vaezoo.data import Dataset
from vaezoo.errors import ConfigError, DataError, ShapeError, shorten
from vaezoo.evaluation.representations import Encode, data_for, representation
from vaezoo.evaluation.test_sets import limited

NEIGHBORS: Final = 5
EXAMPLES: Final = 4_000
STEPS: Final = 500  # of L-BFGS, at most
AT_ONCE: Final = 2**24  # distances


@dataclass(frozen=True, kw_only=True)
class ProbeAccuracy:
    """Accuracies on the second half of a set, from 0 to 1.

    `linear`: of a linear classifier that was trained on the first half; `neighbors`: of a vote of the nearest latents
    of the first half; `majority`: of the most frequent class, which needs no latents.
    """

    linear: float
    neighbors: float
    majority: float


def probe_accuracy(model: VAE | Encode, data: object, *, examples: int = EXAMPLES, k: int = NEIGHBORS) -> ProbeAccuracy:
    """Returns the accuracies of classifiers of the representation (see `representation`) from half of a labeled set.

    Args:
        model: a model, or a function from x to a representation.
        data: labeled examples, anything that `vaezoo.data.as_dataset` takes; binarized as in training.
        examples: use at most so many, chosen with a fixed seed; half of them train.
        k: number of neighbors.

    Raises:
        DataError: fewer than 10 examples with known labels, or a single class.
        ShapeError: the latents are discrete codes.
    """
    chosen = limited(data_for(model, data), whole_number(examples, "examples", 10))[0]
    if chosen.labels is None:
        raise DataError(f"Got {chosen.name!r}, which has no labels; expected a labeled set. Pass (x, labels).")
    known = (chosen.labels.cpu() >= 0).nonzero().flatten()
    labels = chosen.labels.cpu()[known]
    if len(labels) < 10 or len(labels.unique()) < 2:
        raise DataError(
            f"Got {len(labels)} labeled examples of {len(labels.unique())} classes; expected at least 10 of 2 classes."
        )
    latents, half = representation(model, chosen)[known], len(labels) // 2
    pair = (latents[:half], labels[:half])
    truth = labels[half:]
    return ProbeAccuracy(
        linear=accuracy(linear_classes(*pair, latents[half:]), truth),
        neighbors=accuracy(neighbor_classes(*pair, latents[half:], k=k), truth),
        majority=accuracy(labels[:half].mode().values.expand_as(truth), truth),
    )


def probes_of(model: VAE, data: Dataset) -> ProbeAccuracy | None:
    """Returns `probe_accuracy` of a result of `test_set`; None without labels or classes, or for codes."""
    try:
        return probe_accuracy(model, data)
    except (DataError, ShapeError):
        return None


def accuracy(classes: Tensor, labels: Tensor) -> float:
    """Returns the share of equal numbers."""
    return float((classes == labels).double().mean())


def linear_classes(latents: Tensor, labels: Tensor, others: Tensor, *, penalty: float = 1.0) -> Tensor:
    r"""Returns the classes of `others` (M, D) by a multinomial logistic regression, (M,) int64.

    It minimizes the sum of the cross-entropies of the standardized latents plus `penalty` / 2 times the sum of the
    squared weights (not of the biases), by L-BFGS.

    Args:
        latents: those that train, (N, D).
        labels: their classes, (N,), integers from 0.
        others: those to classify.
        penalty: a positive number.

    Raises:
        ShapeError, ConfigError: an argument is invalid.
    """
    checked(latents, labels, others)
    weight = as_number(penalty)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise ConfigError(f"Got penalty = {shorten(penalty)}; expected a positive number.")
    mean, deviation = latents.double().mean(0), latents.double().std(0, correction=0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    x, other = ((each.double() - mean) / scale for each in (latents, others))
    beta = torch.zeros(int(labels.max()) + 1, x.shape[1] + 1, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS([beta], max_iter=STEPS, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ beta[:, 1:].T + beta[:, 0], labels)
        loss = loss + 0.5 * weight / len(x) * beta[:, 1:].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return (other @ beta[:, 1:].T + beta[:, 0]).detach().argmax(1)


def neighbor_classes(latents: Tensor, labels: Tensor, others: Tensor, *, k: int = NEIGHBORS) -> Tensor:
    """Returns the most frequent class among the k nearest `latents` of each of `others`, (M,) int64.

    Distances are Euclidean; among equally frequent classes the smallest number is returned. Arguments and exceptions
    are those of `linear_classes`.
    """
    checked(latents, labels, others)
    k = whole_number(k, "k", 1, len(latents))
    found = list[Tensor]()
    for rows in others.double().split(max(1, AT_ONCE // len(latents))):
        near = labels[torch.cdist(rows, latents.double()).topk(k, largest=False).indices]
        found.append(torch.nn.functional.one_hot(near, int(labels.max()) + 1).sum(1).argmax(1))
    return torch.cat(found)


def checked(latents: Tensor, labels: Tensor, others: Tensor) -> None:
    """Raises ShapeError for latents and labels that do not fit together."""
    fits = latents.dim() == others.dim() == 2 and latents.shape[1] == others.shape[1] and len(latents) > 0
    whole = labels.dtype == torch.int64 and labels.shape == latents.shape[:1]
    if not fits or not whole or int(labels.min()) < 0:
        raise ShapeError(
            f"Got latents {tuple(latents.shape)} and {tuple(others.shape)}, labels {tuple(labels.shape)} of type "
            f"{labels.dtype}; expected (N, D), (M, D) and (N,) of int64, from 0."
        )
