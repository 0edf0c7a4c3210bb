"""Features of images for distances between sets of images: the last hidden layers of trained classifiers."""

from typing import Final, cast

from torch import Tensor, nn
from torch.nn.functional import interpolate

from vaezoo.errors import ShapeError, warn
from vaezoo.networks.features.color import SIDE as COLOR_SIDE
from vaezoo.networks.features.color import ColorClassifier
from vaezoo.networks.features.gray import SIDE as GRAY_SIDE
from vaezoo.networks.features.gray import trained_classifier

FAR: Final = 0.1  # as far outside [0, 1] pixels may be, or as large a share of them farther, without a warning


class TrainedFeatures(nn.Module):
    """Images (B, C, H, W) or (B, H, W) to the last hidden layer of a classifier, (B, 128), or (B, 128·C) for C ≠ 3.

    Color images, C = 3, are resized to 64 x 64 pixels (bilinear, with antialiasing). Their classifier has 20 classes:
    the ten categories of emoji (14.93 % of the test images wrong, all of characters that are not in the training set)
    and those of Fashion-MNIST in random colors (23.93 %). Others are resized to 28 x 28, each channel on its own; their
    classifier has the classes of MNIST (0.50 %) and Fashion-MNIST (10.29 %). Faint noise and slight blur were part of
    the training, so that shapes weigh more than they do. Pixels are clipped to [0, 1], as in pictures. Distances of
    color images do not compare with those of gray ones.

    The package has the weights; `benchmarks/features.py` and `benchmarks/color_features.py` train them.

    Raises:
        CorruptWeightsError: an installed file has another SHA-256 than the recorded one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gray, self.color = trained_classifier(), ColorClassifier()

    def forward(self, images: Tensor) -> Tensor:
        """Returns the features, (B, 128) or (B, 128·C).

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
        clipped = images.float().clamp(0, 1)
        if images.shape[1] == 3:
            return self.color.hidden(resized(clipped, COLOR_SIDE))
        found = cast(Tensor, self.gray.hidden(resized(clipped.flatten(0, 1).unsqueeze(1), GRAY_SIDE)))
        return found.reshape(len(images), -1)


def resized(images: Tensor, side: int) -> Tensor:
    """Returns images (B, C, side, side)."""
    if images.shape[-2:] == (side, side):
        return images
    return interpolate(images, (side, side), mode="bilinear", antialias=True)
