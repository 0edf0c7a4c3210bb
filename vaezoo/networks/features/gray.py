"""A classifier of gray images, whose last hidden layer are features."""

from typing import Final, cast

from torch import Tensor, nn

from vaezoo.core import seeded
from vaezoo.networks.features.convolutions import packaged_tensors

FILE: Final = "gray28.safetensors"  # written by benchmarks/features.py
SHA256: Final = "17f115bdd417e34e35d7015d5d87cf761b5138899721292fe7e9ceb112cae8e0"
SIDE: Final = 28  # height and width of the images that the classifier was trained on
WIDTHS: Final = (32, 64, 96)  # channels of its convolutions
FEATURES: Final = 128
CLASSES: Final = 20  # the ten of MNIST, then the ten of Fashion-MNIST


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


def trained_classifier() -> GrayClassifier:
    """Returns the trained classifier, in eval mode; raises CorruptWeightsError if its file is damaged."""
    with seeded(0):  # initial weights, which are replaced
        made = GrayClassifier()
    made.load_state_dict(packaged_tensors(FILE, SHA256))
    return made.float().eval().requires_grad_(False)
