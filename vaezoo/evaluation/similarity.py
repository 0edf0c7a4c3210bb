r"""Structural similarity of images (SSIM).

$$\frac{(2\mu_x\mu_y + c_1)(2\sigma_{xy} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}$$

with the moments under a Gaussian window around each pixel (Wang et al., 2004, https://doi.org/10.1109/TIP.2003.819861).
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from vaezoo.core import full_precision, widest
from vaezoo.errors import ShapeError
from vaezoo.networks.features import SMALLEST_SIDE, PerceptualDistance

WINDOW: Final = 11  # pixels on each side
DEVIATION: Final = 1.5  # of the window's Gaussian, in pixels
CONSTANTS: Final = (0.01**2, 0.03**2)  # for pixels in [0, 1]


def structural_similarity(x: Tensor, y: Tensor) -> Tensor:
    """Returns the SSIM of each pair of images with pixels in [0, 1], (B,), from -1 to 1, the mean over channels.

    Windows that would extend beyond the image are left out; moments are those of the population.

    Args:
        x: (B, C, H, W) with sides of at least 11 pixels.
        y: likewise.

    Raises:
        ShapeError: the shapes differ, are not those of images, or are too small.
    """
    if x.shape != y.shape or x.dim() != 4 or min(x.shape[2:]) < WINDOW:
        raise ShapeError(
            f"Got shapes {tuple(x.shape)} and {tuple(y.shape)}; SSIM expected two batches of images (B, C, H, W) with "
            f"sides of at least {WINDOW} pixels."
        )
    offsets = torch.arange(WINDOW, device=x.device) - WINDOW // 2
    profile = (-0.5 * (widest(offsets) / DEVIATION).square()).softmax(0)

    def blurred(values: Tensor) -> Tensor:
        row = profile.to(values.dtype)
        return conv2d(conv2d(values, row.view(1, 1, 1, -1)), row.view(1, 1, -1, 1))

    a, b = (full_precision(each).flatten(0, 1).unsqueeze(1) for each in (x, y))
    mean_a, mean_b = blurred(a), blurred(b)
    variance_a, variance_b = blurred(a * a) - mean_a.square(), blurred(b * b) - mean_b.square()
    covariance = blurred(a * b) - mean_a * mean_b
    one, two = CONSTANTS
    found = ((2 * mean_a * mean_b + one) * (2 * covariance + two)) / (
        (mean_a.square() + mean_b.square() + one) * (variance_a + variance_b + two)
    )
    result: Tensor = found.mean((1, 2, 3)).unflatten(0, x.shape[:2]).mean(1)
    return result


class ImagePairs:
    """Measures how close reconstructions are to images, apart from the error of each pixel.

    Args:
        shape: event shape of x.
        device: of the images.
    """

    def __init__(self, shape: Sequence[int], device: torch.device) -> None:
        self.structural = len(shape) == 3 and min(shape[1:]) >= WINDOW
        colored = len(shape) == 3 and shape[0] == 3 and min(shape[1:]) >= SMALLEST_SIDE
        self.distance = PerceptualDistance().to(device) if colored else None

    def __call__(self, x: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """Returns SSIM and perceptual distance of each pair, (B,) each; NaN where they do not apply."""
        none = x.new_full((len(x),), torch.nan, dtype=torch.float32)
        similarity = structural_similarity(x, made) if self.structural else none
        distance: Tensor = none if self.distance is None else self.distance(x, made.clamp(0.0, 1.0))
        return similarity, distance
