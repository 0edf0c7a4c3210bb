"""Loading of MNIST and Fashion-MNIST: four idx files of the same names and sizes."""

from pathlib import Path

import torch

from vaezoo.data.dataset import Dataset
from vaezoo.data.download.cache import Collection, ensure
from vaezoo.data.download.idx import read_idx
from vaezoo.data.download.sources import DataFile
from vaezoo.data.splits import check_split
from vaezoo.errors import DataError

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
        DataError: The split is unknown, or a file changed while it was read.
        DownloadError: No source has the files.
    """
    check_split(collection.name, split)
    files = collection.files[:2] if split == "train" else collection.files[2:]
    paths = ensure(collection, cache=cache, files=files, download=download)
    images, labels = (read_idx(path.read_bytes(), str(path)) for path in paths)
    if images.shape[0] != labels.shape[0]:
        raise DataError(
            f"{collection.name}: got {images.shape[0]} images and {labels.shape[0]} labels; download it again."
        )
    return Dataset(
        name=collection.name,
        split=split,
        images=images.unsqueeze(1),
        labels=labels.to(torch.int64),
        classes=10,
        licence=licence,
    )
