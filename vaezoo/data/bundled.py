"""Test images that are part of the package, for use without a download."""

import hashlib
from importlib.resources import files
from typing import Any, Final, NamedTuple

from safetensors.torch import load

from vaezoo.data.dataset import Dataset
from vaezoo.data.sets import emoji, fashion_mnist, mnist
from vaezoo.errors import DataError


class BundledFile(NamedTuple):
    """A file of test images.

    `images`: their number. `first`: whether they are the first ones of the test set. `facts`: arguments of `Dataset`.
    """

    name: str
    images: int
    sha256: str
    first: bool
    facts: dict[str, Any]  # Any: arguments of any type


BUNDLED: Final = {
    "mnist": BundledFile(
        "mnist64.safetensors",
        64,
        "5a17e03e50d365a1b67c7d3931746d02946ef8b7f1bd450a46fa008708e29bd1",
        True,
        {"classes": 10, "licence": mnist.LICENCE},
    ),
    "fashion-mnist": BundledFile(
        "fashion-mnist64.safetensors",
        64,
        "8e186e2df93d9582cea1d7f0dd805f44ba758feefb671a2b5d02f855d203fcfa",
        True,
        {"classes": 10, "class_names": fashion_mnist.CLASSES, "licence": fashion_mnist.LICENCE},
    ),
    "emoji": BundledFile(
        "emoji27.safetensors",
        27,
        "204641f51815dbc2c5f9192ecb690b15ae1569fc5e3ba46ce943ec7ed39766b9",
        False,
        {"classes": 10, "class_names": emoji.CATEGORIES, "licence": emoji.licence()},
    ),
}
"""data set -> its images in the package"""


DRAWN: Final = ("dsprites", "color-dsprites", "digits")
"""data sets that are computed, or come with scikit-learn"""


def needs_no_download(name: object) -> bool:
    """Returns whether there are test images of a data set without a download."""
    return name in (*BUNDLED, *DRAWN)


def bundled_images(name: str = "mnist") -> Dataset:
    """Returns test images of a data set that are part of the package, with labels.

    Args:
        name: `"mnist"` or `"fashion-mnist"`, the first 64 test images, `uint8` (64, 1, 28, 28); or `"emoji"`, one
            image of each of nine categories by each artist, (27, 3, 64, 64).

    Licenses: those of the data sets, not the package's own; see `vaezoo/data/images.LICENCE.txt`.

    Raises:
        DataError: No images of this set are in the package, or the installed file has another SHA-256 than the
            recorded one.
    """
    if name not in BUNDLED:
        raise DataError(f"Got {name!r}; images of {', '.join(BUNDLED)} are in the package. Use load_dataset.")
    file = BUNDLED[name]
    data = (files("vaezoo.data") / file.name).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise DataError(
            f"{file.name}: got SHA-256 {digest}; expected {file.sha256}. The installation is damaged: reinstall vaezoo."
        )
    tensors = load(data)
    return Dataset(name=name, split="test", images=tensors["images"], labels=tensors["labels"], **file.facts)
