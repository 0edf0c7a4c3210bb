"""Fashion-MNIST: 60,000 + 10,000 articles of clothing, 28x28 gray (Xiao, Rasul and Vollgraf, 2017)."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from vaezoo.data.dataset import Dataset
from vaezoo.data.download.cache import Collection
from vaezoo.data.download.mnist_files import idx_files, load_idx_split
from vaezoo.data.download.registries import DebianPackage
from vaezoo.data.download.sources import Mirror

LICENCE: Final = "Fashion-MNIST: Zalando SE, MIT"
CLASSES: Final = (  # without slashes, which names in a config cannot have
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

COLLECTION: Final = Collection(
    name="fashion-mnist",
    files=idx_files(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    sources=(
        Mirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
        DebianPackage("dataset-fashion-mnist"),
    ),
)


def fashion_mnist(split: str, *, cache: Path, download: bool) -> Dataset:
    """Returns Fashion-MNIST: `uint8` images (N, 1, 28, 28), ten classes; N = 60,000 (train) or 10,000 (test).

    License: MIT. Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms", 2017.

    Raises:
        DataError: `split` is neither `"train"` nor `"test"`.
        DownloadError: No source has a verified copy.
    """
    data = load_idx_split(COLLECTION, split, LICENCE, cache=cache, download=download)
    return replace(data, class_names=CLASSES)
