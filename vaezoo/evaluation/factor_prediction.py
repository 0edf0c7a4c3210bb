"""Disentanglement scores of predictors of the factors from the latents: DCI and SAP, by scikit-learn."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vaezoo.core import require, whole_number, whole_seed
from vaezoo.data import Factors
from vaezoo.errors import DataError
from vaezoo.evaluation.factor_scores import checked, entropy, varying

TREES = 30  # of a random forest
LEAST = 10  # examples


@dataclass(frozen=True, kw_only=True)
class DCI:
    """Disentanglement, completeness and informativeness, each between 0 and 1, higher is better.

    `disentanglement`: whether each latent predicts one factor. `completeness`: whether each factor is predicted by one
    latent. `informativeness`: accuracy of the predictions on examples that were held out, the mean over factors.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def dci(latents: Tensor, factors: Factors, *, seed: int = 0) -> DCI:
    r"""Returns disentanglement, completeness and informativeness (Eastwood and Williams, 2018, ICLR).

    A random forest of 30 trees predicts each factor from all latents of half of the examples. With its importances
    $R_{jk}$ of latent j for factor k, normalized over factors or latents, disentanglement of a latent is one minus the
    entropy of its row in units of log K, the mean weighted by the sum of the row; completeness of a factor is one minus
    the entropy of its column in units of log D, the mean over factors. Locatello et al. (2019) use boosted trees.

    Args:
        latents: a representation, (N, D), N ≥ 10.
        factors: factors of the same examples; those with a single value are left out.
        seed: seed of the forests and of the halves.

    Raises:
        ShapeError, DataError: an argument is invalid.
        MissingExtraError: scikit-learn is not installed.
    """
    halves, which = halves_of(latents, factors, seed), varying(factors)
    require("sklearn", "scikit-learn", "DCI")
    from sklearn.ensemble import RandomForestClassifier

    columns, accuracies = list[Tensor](), list[float]()
    (train, train_values), (test, test_values) = halves
    for k in which:
        forest: Any = RandomForestClassifier(TREES, max_features=None, random_state=seed)  # sklearn has no types
        forest.fit(train.numpy(), train_values[:, k].numpy())
        columns.append(torch.from_numpy(forest.feature_importances_).double())
        accuracies.append(float(forest.score(test.numpy(), test_values[:, k].numpy())))
    return DCI(informativeness=sum(accuracies) / len(accuracies), **of_importances(torch.stack(columns, 1)))


def of_importances(importances: Tensor) -> dict[str, float]:
    """Returns disentanglement and completeness of importances (D, K), which are not negative."""
    latents, factors = importances.shape
    tiny = torch.finfo(importances.dtype).tiny
    rows = importances.sum(1)
    each = 1.0 - entropy(importances / rows.clamp(min=tiny).unsqueeze(1)) / torch.tensor(max(factors, 2)).log()
    columns = importances / importances.sum(0).clamp(min=tiny)
    complete = 1.0 - entropy(columns.T) / torch.tensor(max(latents, 2)).log()
    return {
        "disentanglement": float((each * rows).sum() / rows.sum().clamp(min=tiny)),
        "completeness": float(complete.mean()),
    }


def sap_score(latents: Tensor, factors: Factors, *, examples: int = 2_000, seed: int = 0) -> float:
    """Returns the separated attribute predictability, between 0 and 1.

    Kumar et al., 2018, https://arxiv.org/abs/1711.00848: the mean over factors of the accuracy of the best latent minus
    that of the second best. As in Locatello et al. (2019), a linear support vector machine (C = 0.01, classes weighted
    equally) predicts the factor from one latent of half of the examples, and its accuracy on the others counts.

    Args:
        latents: a representation, (N, D), N ≥ 10.
        factors: factors of the same examples; those with a single value are left out.
        examples: the largest number of examples that are used, chosen by `seed`.
        seed: seed of the choice, of the halves and of the machines.

    Raises:
        ShapeError, DataError: an argument is invalid.
        MissingExtraError: scikit-learn is not installed.
    """
    examples = whole_number(examples, "examples", LEAST)
    (train, train_values), (test, test_values) = halves_of(latents, factors, seed, examples)
    require("sklearn", "scikit-learn", "SAP")
    from sklearn.svm import LinearSVC

    gaps = []
    for k in varying(factors):
        scores = [0.0]  # of a second latent, if there is none
        for column, held_out in zip(train.T, test.T, strict=True):
            machine: Any = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)  # sklearn has no types
            machine.fit(column.unsqueeze(1).numpy(), train_values[:, k].numpy())
            scores.append(float(machine.score(held_out.unsqueeze(1).numpy(), test_values[:, k].numpy())))
        first, second = sorted(scores)[:-3:-1]
        gaps.append(first - second)
    return sum(gaps) / len(gaps)


def halves_of(
    latents: Tensor, factors: Factors, seed: int, most: int | None = None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns latents and values of the factors of two halves of the examples, chosen by `seed`."""
    latents, values = checked(latents, factors), factors.values()
    if len(latents) < LEAST:
        raise DataError(f"Got {len(latents)} examples; expected at least {LEAST} for predictors of the factors.")
    order = torch.randperm(len(latents), generator=torch.Generator().manual_seed(whole_seed(seed)))[:most]
    one, other = order.chunk(2)
    return (latents[one], values[one]), (latents[other], values[other])
