"""The 64 MNIST test images that are part of the package, for use without a download."""

import hashlib
from importlib.resources import files
from typing import Final

from safetensors.torch import load

from vaezoo.data.dataset import Dataset
from vaezoo.data.sets.mnist import LICENCE
from vaezoo.errors import DataError

_FILE: Final = "mnist64.safetensors"
_SHA256: Final = "5a17e03e50d365a1b67c7d3931746d02946ef8b7f1bd450a46fa008708e29bd1"


def bundled_images() -> Dataset:
    """Returns the first 64 MNIST test images: `uint8` (64, 1, 28, 28), with labels.

    License: CC BY-SA 3.0 (not the package's own; see `mnist64.LICENCE.txt`). Source: LeCun, Cortes and Burges, 1998.

    Raises:
        DataError: The installed file has another SHA-256 than the recorded one.
    """
    data = (files("vaezoo.data") / _FILE).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != _SHA256:
        raise DataError(
            f"{_FILE}: got SHA-256 {digest}; expected {_SHA256}. The installation is damaged: reinstall vaezoo."
        )
    tensors = load(data)
    return Dataset(
        name="mnist", split="test", images=tensors["images"], labels=tensors["labels"], classes=10, licence=LICENCE
    )
