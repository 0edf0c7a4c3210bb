"""A classifier of color images: features of each grid, and those of the last hidden layer."""

from collections.abc import Mapping
from typing import Final

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, linear

from vaezoo.networks.features.convolutions import Convolutions, packaged_tensors

FILE: Final = "color64.safetensors"  # written by benchmarks/color_features.py
SHA256: Final = "6b7af4d13635cfb97b6679b4fc480bcc1e1917935e07f18be0c8829ed1289ceb"
SIDE: Final = 64  # height and width of the images that the classifier was trained on
GROUPS: Final = (1, 1, 2, 2)  # convolutions on 64 x 64, 32 x 32, 16 x 16 and 8 x 8
WIDTHS: Final = (32, 48, 96, 96, 128, 128)
FEATURES: Final = 128
CLASSES: Final = 20  # the ten categories of emoji, then the ten of Fashion-MNIST


class ColorClassifier(Convolutions):
    """The trained classifier of color images (B, 3, H, W) with pixels in [0, 1].

    It has 20 classes: the ten categories of emoji and those of Fashion-MNIST in random colors.

    Args:
        tensors: as `benchmarks/color_features.py` makes them; None for those of the package.

    Raises:
        CorruptWeightsError: the file of the package is damaged.
    """

    def __init__(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(packaged_tensors(FILE, SHA256) if tensors is None else tensors, GROUPS, avg_pool2d)

    def hidden(self, images: Tensor) -> Tensor:
        """Returns the last hidden layer, (B, 128)."""
        pooled = adaptive_avg_pool2d(self.maps(images)[-1], 2).flatten(1)
        return linear(pooled, self.get_buffer("hidden_weight"), self.get_buffer("hidden_bias")).relu()

    def logits(self, images: Tensor) -> Tensor:
        """Returns logits of the classes, (B, 20)."""
        return linear(self.hidden(images), self.get_buffer("head_weight"), self.get_buffer("head_bias"))
