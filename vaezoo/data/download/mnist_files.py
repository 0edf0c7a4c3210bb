"""Loading of MNIST and Fashion-MNIST: four idx files of the same names and sizes."""

from pathlib import Path

import numpy as np
import torch

from vaezoo.data.dataset import Dataset
from vaezoo.data.download.cache import Collection, ensure
from vaezoo.data.download.sources import DataFile
from vaezoo.data.splits import check_split

_FILES = (
    ("train-images-idx3-ubyte", 47_040_016),
    ("train-labels-idx1-ubyte", 60_008),
    ("t10k-images-idx3-ubyte", 7_840_016),
    ("t10k-labels-idx1-ubyte", 10_008),
)


def idx_files(*sha256: str) -> tuple[DataFile, ...]:
    """Returns the four files (train images, train labels, test images, test labels) with their SHA-256."""
    return tuple(
        DataFile(name=name, size=size, sha256=digest) for (name, size), digest in zip(_FILES, sha256, strict=True)
    )


def load_idx_split(collection: Collection, split: str, licence: str, *, cache: Path, download: bool) -> Dataset:
    """Returns one split as `uint8` images (N, 1, 28, 28) with labels of ten classes.

    Raises:
        DataError: The split is unknown.
        DownloadError: No source has the files.
    """
    check_split(collection.name, split)
    files = collection.files[:2] if split == "train" else collection.files[2:]
    paths = ensure(collection, cache=cache, files=files, download=download)
    # The headers have 16 and 8 bytes; the SHA-256 of each file was verified, so they need not be read.
    images, labels = (torch.from_numpy(np.fromfile(path, np.uint8, offset=8 * (2 - i))) for i, path in enumerate(paths))
    return Dataset(
        name=collection.name,
        split=split,
        images=images.view(-1, 1, 28, 28),
        labels=labels.long(),
        classes=10,
        licence=licence,
    )
