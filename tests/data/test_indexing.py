"""Index arguments of `subset`, `batch`, items, factors: masks, slices, lists, arrays, tensors."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from vaezoo.data import Dataset, Factors, from_tensors, load_dataset
from vaezoo.data.indexing import as_indices
from vaezoo.errors import DataError

VALUES = [10.0, 11.0, 12.0, 13.0, 14.0]
CASES = [
    (torch.tensor([False, True, False, True, False]), [1, 3]),
    (np.array([True, False, False, False, True]), [0, 4]),
    ([False, False, True, False, False], [2]),
    (slice(None, 2), [0, 1]),
    (slice(None, None, -2), [4, 2, 0]),
    (slice(-2, None), [3, 4]),
    (range(1, 4), [1, 2, 3]),
    ([-1, 0, np.int64(2)], [4, 0, 2]),
    ((3, 3), [3, 3]),
    (np.array([4, -5], dtype=np.int16), [4, 0]),
    (np.array([1, 2], dtype=np.uint8), [1, 2]),
    (torch.tensor([2, -1], dtype=torch.int32), [2, 4]),
]


def table() -> Dataset:
    factors = Factors.of(torch.arange(5).unsqueeze(1), ["number"])
    return from_tensors((torch.tensor(VALUES).unsqueeze(1), torch.arange(5)), factors=factors)


@pytest.mark.parametrize(("indices", "places"), CASES)
def test_every_form_selects_the_same_examples_everywhere(indices: object, places: list[int]) -> None:
    data, wanted = table(), [VALUES[i] for i in places]
    part = data.subset(indices)  # type: ignore[arg-type]  # each form on purpose
    assert part.images.flatten().tolist() == wanted
    assert part.labels is not None and part.labels.tolist() == places
    assert part.factors is not None and part.factors.values().flatten().tolist() == places
    assert data[indices].images.flatten().tolist() == wanted  # type: ignore[call-overload]
    assert data.batch(indices).flatten().tolist() == wanted  # type: ignore[arg-type]
    assert data.factors is not None and data.factors.values(indices).flatten().tolist() == places  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("indices", "match"),
    [
        (torch.ones(4, dtype=torch.bool), r"mask of shape \(4,\); expected \(5,\)"),
        (np.zeros(5, dtype=bool), "select nothing"),
        ([True, 2], "booleans"),
        (torch.tensor([0, 1, 1, 0, 1], dtype=torch.uint8), "may be a mask"),
        (np.array([0, 1, 1, 0, 1], dtype=np.uint8), "may be a mask"),
        (torch.tensor([0, 1, 1, 0, 1]), "may be a mask"),
        ([0, 0, 1, 0, 0], "may be a mask"),
        (np.array([False, True, True, False, False]).astype(int), "may be a mask"),
        (np.ma.array([1, 2], mask=[False, True]), "a masked array"),
        ([], "at least one"),
        (slice(3, 3), "at least one"),
        ([0, 5], "from 0 to 5; expected"),
        ([-6], "from -6 to -6"),
        ([[0, 1]], r"shape \(1, 2\)"),
        (torch.tensor([0.0, 1.0]), "float32"),
        (np.array([0.5]), "whole numbers"),
        (["a"], "whole numbers"),
        ([[0], [1, 2]], "inhomogeneous"),
        (slice("a", None), "slice"),
    ],
)
def test_what_selects_no_examples_is_refused(indices: object, match: str) -> None:
    data = table()
    assert data.factors is not None
    for use in (data.subset, data.batch, data.__getitem__, data.factors.values, data.factors.subset):
        with pytest.raises(DataError, match=match):
            use(indices)  # type: ignore[operator]


def test_a_mask_of_a_class_selects_that_class() -> None:
    data = load_dataset("digits")
    assert data.labels is not None
    threes = data.subset(data.labels == 3)
    assert len(threes) == int((data.labels == 3).sum()) > 100
    assert threes.labels is not None and threes.labels.unique().tolist() == [3]
    assert torch.equal(data.subset(data.labels.numpy() == 3).images, threes.images)


def test_one_index_is_an_example_and_out_of_range_is_an_error() -> None:
    data = table()
    for one in (3, np.int64(3), torch.tensor(3), -2):
        x, c = data[one]  # type: ignore[index]
        assert x.tolist() == [13.0] and c == 3
    for wrong in (5, -6):
        with pytest.raises(DataError, match="from -5 to 4"):
            data[wrong]
    assert as_indices(2, 5, "toy").tolist() == [2]


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_a_mask_in_a_subset_of_torch_selects_as_everywhere(kind: Callable[[list[bool]], Sequence[int]]) -> None:
    data = table()
    mask = kind([False, True, False, True, False])
    for whole in (data, TensorDataset(data.images, torch.arange(5)), data.images.numpy(), list(data.images)):
        found = from_tensors(Subset(whole, mask))  # type: ignore[arg-type]  # an array has the methods of a data set
        assert found.images.flatten().tolist() == [11.0, 13.0]
    with pytest.raises(DataError, match="from 5 to 5"):
        from_tensors(Subset(TensorDataset(data.images), [5]))
