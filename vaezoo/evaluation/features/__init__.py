"""Features of images for distances between sets of images: the last hidden layer of a trained classifier."""

import hashlib
from importlib.resources import files
from typing import Final, cast

from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import interpolate

from vaezoo.core import seeded
from vaezoo.errors import CorruptWeightsError, ShapeError, warn

FILE: Final = "gray28.safetensors"  # written by benchmarks/features.py
SHA256: Final = "17f115bdd417e34e35d7015d5d87cf761b5138899721292fe7e9ceb112cae8e0"
SIDE: Final = 28  # height and width of the images that the classifier was trained on
WIDTHS: Final = (32, 64, 96)  # channels of its convolutions
FEATURES: Final = 128
CLASSES: Final = 20  # the ten of MNIST, then the ten of Fashion-MNIST
FAR: Final = 0.1  # as far outside [0, 1] pixels may be, or as large a share of them farther, without a warning


class GrayClassifier(nn.Module):
    """A classifier of gray images (B, 1, 28, 28) with pixels in [0, 1], trained on MNIST and Fashion-MNIST."""

    def __init__(self) -> None:
        super().__init__()
        inner, middle, outer = WIDTHS
        self.hidden = nn.Sequential(
            *(nn.Conv2d(1, inner, 5, 2, 2, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),  # 14 x 14
            *(nn.Conv2d(inner, middle, 3, 1, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU()),
            *(nn.Conv2d(middle, outer, 3, 2, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()),  # 7 x 7
            *(nn.AvgPool2d(3, 2), nn.Flatten()),  # 3 x 3
            *(nn.Linear(9 * outer, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU()),
        )
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits of the classes, (B, 20)."""
        return cast(Tensor, self.head(self.hidden(images)))


class TrainedFeatures(nn.Module):
    """Images (B, C, H, W) or (B, H, W) to the last hidden layer of a classifier of gray images, (B, 128·C).

    The classifier has 20 classes, those of MNIST (0.50 % of the test images wrong) and of Fashion-MNIST (10.29 %);
    faint noise and slight blur were part of its training, so that shapes weigh more than they do.
    Images of another size are resized to 28 x 28 pixels (bilinear, with antialiasing). Each channel of a color image is
    a gray image of its own, and their features are concatenated, so that colors matter. Pixels are clipped to [0, 1],
    as in pictures.

    The package has its weights (384 kB); `benchmarks/features.py` trains them.

    Raises:
        CorruptWeightsError: the installed file has another SHA-256 than the recorded one.
    """

    def __init__(self) -> None:
        super().__init__()
        with seeded(0):  # initial weights, which are replaced
            self.classifier = trained_classifier()
        self.float().eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the features, (B, 128·C).

        Raises:
            ShapeError: the examples are not images.
        """
        images = images.unsqueeze(1) if images.dim() == 3 else images
        if images.dim() != 4:
            raise ShapeError(
                f"Got examples of shape {tuple(images.shape[1:])}; the features of the package expected images "
                "(channels, height, width). Pass features=, a function from examples (B, ...) to (B, F)."
            )
        if ((images < -FAR) | (images > 1 + FAR)).float().mean() > FAR:
            warn("Got images with many pixels outside [0, 1]; the features of the package clip them. Scale the images.")
        gray = images.float().clamp(0, 1).flatten(0, 1).unsqueeze(1)
        if gray.shape[-2:] != (SIDE, SIDE):
            gray = interpolate(gray, (SIDE, SIDE), mode="bilinear", antialias=True)
        found = cast(Tensor, self.classifier.hidden(gray))
        return found.reshape(len(images), -1)


def trained_classifier() -> GrayClassifier:
    """Returns the trained classifier, in eval mode; raises CorruptWeightsError if its file is damaged."""
    data = (files(__name__) / FILE).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise CorruptWeightsError(
            f"{FILE}: got SHA-256 {digest}; expected {SHA256}. The installation is damaged: reinstall vaezoo."
        )
    made = GrayClassifier()
    made.load_state_dict({key: tensor.float() for key, tensor in load(data).items()})
    return made.eval()
