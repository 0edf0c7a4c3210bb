"""Digits: 1,797 handwritten digits, 8x8 gray, distributed with scikit-learn (Alpaydin and Kaynak, 1998)."""

from typing import Final

import torch

from vaezoo.core import require
from vaezoo.data.dataset import Dataset
from vaezoo.data.splits import check_split, fixed_split

LICENCE: Final = "Digits: E. Alpaydin and C. Kaynak (UCI), CC BY 4.0"

SPLIT_SEED: Final = 19_980_701
"""Chooses the 360 test images, 35 to 37 of each class."""


def digits(split: str) -> Dataset:
    """Returns the digits: `uint8` images (N, 1, 8, 8), ten classes; N = 1,437 (train) or 360 (test).

    Values 0 to 16 become round(255·v/16). The images are part of scikit-learn; nothing is downloaded.

    License: CC BY 4.0. Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, 1998.

    Raises:
        DataError: `split` is neither `"train"` nor `"test"`.
        MissingExtraError: scikit-learn is not installed.
    """
    check_split("digits", split)
    bunch = require("sklearn.datasets", "scikit-learn", "The data set digits").load_digits()
    values = torch.from_numpy(bunch.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    index = fixed_split(labels, len(labels), every=5, seed=SPLIT_SEED)[split]
    return Dataset(name="digits", split=split, images=values[index], labels=labels[index], classes=10, licence=LICENCE)
