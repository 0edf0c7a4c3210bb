"""Train and test: which names a split may have, and a fixed split for sets that come without one."""

import numpy as np
import torch
from torch import Tensor

from vaezoo.data.dataset import stable_permutation
from vaezoo.errors import DataError, did_you_mean, shorten

SPLITS = ("train", "test")
"""The splits that every data set by name has."""


def check_split(name: str, split: str) -> None:
    """Raises `DataError` unless `split` is `"train"` or `"test"`."""
    if split not in SPLITS:
        hint = (
            " A validation set is no file: hold it out of the training set with dataset.split_off(count, seed)."
            if split == "validation"
            else did_you_mean(split, SPLITS)
        )
        raise DataError(f"{name}: got split {shorten(split)}; expected 'train' or 'test'.{hint}")


def fixed_split(labels: Tensor | None, count: int, *, every: int, seed: int) -> dict[str, Tensor]:
    """Splits `count` examples once and for all: one of `every` goes to the test set, stratified by label.

    The examples are shuffled by `seed`, sorted by label, and every `every`-th is taken, so each class has its share
    in the test set to within one example.

    Args:
        labels: Class numbers of shape (count,), or None for a plain random split.
        count: Number of examples.
        every: The test set holds ⌈count / every⌉ examples.
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
