"""Modularity, DCI and SAP: known values, matrices by hand, and refused input."""

import numpy as np
import pytest
import torch
from sklearn.feature_selection import mutual_info_classif

from vaezoo.data import Factors, from_tensors
from vaezoo.errors import DataError
from vaezoo.evaluation import dci, disentanglement, modularity, sap_score
from vaezoo.evaluation.factor_prediction import of_importances
from vaezoo.evaluation.factor_scores import informations

SIZES = (3, 4, 5)
VALUES = torch.cartesian_prod(*(torch.arange(size) for size in SIZES)).repeat(20, 1)  # (1200, 3)
FACTORS = Factors.of(VALUES, "abc")


def noisy(values: torch.Tensor, deviation: float = 0.1) -> torch.Tensor:
    torch.manual_seed(0)
    return values.double() + deviation * torch.randn(values.shape, dtype=torch.float64)


def test_latents_of_one_factor_each_have_the_best_scores() -> None:
    z = noisy(VALUES[:, [2, 0, 1]])
    found = dci(z, FACTORS)
    assert min(found.disentanglement, found.completeness, found.informativeness) > 0.97
    assert modularity(z, FACTORS) > 0.99
    assert sap_score(z, FACTORS) > 0.4


def test_latents_without_information_have_the_worst() -> None:
    torch.manual_seed(1)
    z = torch.randn(len(VALUES), 3, dtype=torch.float64)
    found = dci(z, FACTORS)
    assert found.disentanglement < 0.1 and found.completeness < 0.1
    assert found.informativeness == pytest.approx(np.mean([1 / size for size in SIZES]), abs=0.05)
    assert sap_score(z, FACTORS) < 0.1
    assert modularity(torch.ones(len(VALUES), 2), FACTORS) == 0


def test_a_factor_in_two_latents_lowers_completeness_and_sap_but_not_modularity() -> None:
    twice = torch.cat([noisy(VALUES), noisy(VALUES[:, :1], 0.11)], 1)
    one, found = dci(noisy(VALUES), FACTORS), dci(twice, FACTORS)
    assert found.completeness < one.completeness - 0.1
    assert found.disentanglement > 0.95 and modularity(twice, FACTORS) > 0.99
    assert sap_score(twice, FACTORS) < sap_score(noisy(VALUES), FACTORS) - 0.1


def test_a_latent_of_two_factors_lowers_disentanglement_and_modularity() -> None:
    mixed = noisy(torch.stack([VALUES[:, 0] + 3 * VALUES[:, 1], VALUES[:, 2]], 1))
    found = dci(mixed, FACTORS)
    assert found.disentanglement < 0.8 and found.informativeness > 0.95
    assert modularity(mixed, FACTORS) < 0.9


def test_modularity_equals_the_formula_with_informations_of_scikit_learn() -> None:
    z = VALUES.double() @ torch.tensor([[1.0, 0.4], [0.0, 1.0], [0.3, 0.0]], dtype=torch.float64)
    ours, entropies = informations(z, FACTORS, 20)
    edges = [np.linspace(float(column.min()), float(column.max()), 21)[1:-1] for column in z.T]
    binned = np.stack([np.digitize(column.numpy(), edge) for column, edge in zip(z.T, edges, strict=True)], 1)
    theirs = np.stack([mutual_info_classif(binned, VALUES[:, k].numpy(), discrete_features=True) for k in range(3)], 1)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=0.02)  # values on the edges of intervals
    np.testing.assert_allclose(entropies.numpy(), np.log(SIZES), rtol=1e-9)
    squares = ours.numpy() ** 2
    wanted = np.mean([1 - (sum(row) - max(row)) / (2 * max(row)) for row in squares])
    assert modularity(z, FACTORS) == pytest.approx(wanted, rel=1e-9)


def test_disentanglement_and_completeness_of_a_matrix_by_hand() -> None:
    """Rows: one factor alone; two factors equally; nothing."""
    importances = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0]], dtype=torch.float64)
    found = of_importances(importances)
    assert found["disentanglement"] == pytest.approx((1.0 * 1.0 + 0.0 * 1.0) / 2)
    shares = np.array([2 / 3, 1 / 3])
    first = 1 + (shares * np.log(shares)).sum() / np.log(3)
    assert found["completeness"] == pytest.approx((first + 1.0) / 2)


def test_scores_are_equal_for_equal_seeds() -> None:
    z = noisy(VALUES, 1.0)
    assert dci(z, FACTORS, seed=3) == dci(z, FACTORS, seed=3) != dci(z, FACTORS, seed=4)
    assert sap_score(z, FACTORS, seed=3) == sap_score(z, FACTORS, seed=3)


def test_few_examples_and_single_factors_are_refused() -> None:
    few = Factors.of(VALUES[:9], "abc")
    for score in (dci, sap_score):
        with pytest.raises(DataError, match="at least 10"):
            score(VALUES[:9].double(), few)
    with pytest.raises(DataError, match="at least two"):
        modularity(VALUES.double(), Factors.of(VALUES[:, :1], "a"))


def test_all_scores_of_a_single_factor_leave_modularity_out() -> None:
    data = from_tensors(torch.rand(12, 1, 4, 4), factors=Factors.of(torch.arange(12)[:, None] % 2, ["a"]))
    found = disentanglement(lambda x: x.mean((1, 2)), data)
    assert found.modularity is None and found.sap is not None and found.dci is not None
