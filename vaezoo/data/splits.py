"""Names of splits, and a fixed split for sets that have none."""

import numpy as np
import torch
from torch import Tensor

from vaezoo.data.dataset import stable_permutation
from vaezoo.errors import DataError, did_you_mean, shorten

SPLITS = ("train", "test")
"""The splits of every named data set."""


def check_split(name: str, split: str) -> None:
    """Raises `DataError` unless `split` is `"train"` or `"test"`, the splits of each set; `load_dataset` joins both."""
    if split not in SPLITS:
        hint = (
            " Hold a validation set out of the training set: dataset.split_off(count, seed)."
            if split == "validation"
            else did_you_mean(split, SPLITS)
        )
        raise DataError(f"{name}: got split {shorten(split)}; expected 'train', 'test' or 'all'.{hint}")


def fixed_split(labels: Tensor | None, count: int, *, every: int, seed: int) -> dict[str, Tensor]:
    """Splits `count` examples deterministically: one of `every` goes to the test set, stratified by label.

    The examples are shuffled by `seed` and sorted by label; every `every`-th goes to the test set, so that the share of
    each class is right to within one example.

    Args:
        labels: Class numbers of shape (count,), or None for a plain random split.
        count: Number of examples.
        every: The test set has ⌈count / every⌉ examples.
        seed: Chooses the examples; the same on every platform and library version.

    Returns:
        Ascending indices (M,) for `"train"` and `"test"`.
    """
    order = stable_permutation(count, seed)
    if labels is not None:
        order = order[np.argsort(labels.numpy()[order], kind="stable")]
    test = np.zeros(count, dtype=bool)
    test[order[::every]] = True
    return {"train": torch.from_numpy(np.flatnonzero(~test)), "test": torch.from_numpy(np.flatnonzero(test))}
