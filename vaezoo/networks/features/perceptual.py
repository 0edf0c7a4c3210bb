r"""The perceptual distance of two images: the squared distance of their features in a trained network.

$$d(x, y) = \frac{1}{L} \sum_{l=1}^{L} \frac{1}{h_l w_l} \sum_{i} \|\hat f_l(x)_i - \hat f_l(y)_i\|^2$$

over the L grids of the network and the positions i of each, with features $\hat f$ of length 1 at each position (Zhang
et al., 2018, https://arxiv.org/abs/1801.03924, without its learned weights of the channels). It is from 0 to 2, and has
no unit.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from vaezoo.core import full_precision
from vaezoo.errors import ConfigError, ShapeError
from vaezoo.networks.features.color import ColorClassifier
from vaezoo.networks.features.vgg16 import VGG16

PerceptualNetwork = Literal["color64", "vgg16"]
SMALL = 1e-10  # added to squared lengths of features
SMALLEST_SIDE = 16  # pixels of an image: the last grid of each network has at least one position


class PerceptualDistance(nn.Module):
    """The perceptual distance of images (B, C, H, W) with C = 1 or 3 and pixels in [0, 1].

    Args:
        network: "color64", a classifier of emoji and Fashion-MNIST in the package (see `TrainedFeatures`); or "vgg16",
            with weights of the user's own file, which `vaezoo features FILE` copies into the cache folder.

    Without the file of "vgg16" the module is built all the same, so that models that were trained with it load; it
    raises ConfigError when it is used.
    """

    def __init__(self, network: PerceptualNetwork = "color64") -> None:
        super().__init__()
        self.missing: ConfigError | None = None
        self.network: ColorClassifier | VGG16 | None = None
        try:
            self.network = ColorClassifier() if network == "color64" else VGG16()
        except ConfigError as error:
            self.missing = error

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the distance of each pair of images, (B,), at least in float32.

        Raises:
            ShapeError: x and y have different shapes, are not gray or color images, or are too small.
            ConfigError: the weights of the network are missing.
        """
        if self.network is None:
            assert self.missing is not None
            raise self.missing
        if x.shape != y.shape or x.dim() != 4 or x.shape[1] not in (1, 3):
            raise ShapeError(
                f"Got shapes {tuple(x.shape)} and {tuple(y.shape)}; the perceptual distance expected two batches "
                "(B, C, H, W) of gray or color images, C = 1 or 3."
            )
        total = torch.zeros(len(x), dtype=full_precision(y).dtype, device=y.device)
        maps = [self.network.maps(each.expand(-1, 3, -1, -1)) for each in (x, y)]
        for ours, theirs in zip(*maps, strict=True):
            total = total + (normalized(ours) - normalized(theirs)).square().sum(1).mean((1, 2))
        return total / len(maps[0])


def normalized(features: Tensor) -> Tensor:
    """Returns features (B, F, h, w) of length 1 at each position, at least in float32."""
    features = full_precision(features)
    return features * (features.square().sum(1, keepdim=True) + SMALL).rsqrt()
