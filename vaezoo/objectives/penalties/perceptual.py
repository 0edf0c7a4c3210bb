"""The perceptual distance of an image and its reconstruction as a penalty."""

from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from vaezoo.core import Inference, Model
from vaezoo.errors import ShapeError
from vaezoo.networks.features import SMALLEST_SIDE, PerceptualDistance, PerceptualNetwork


class PerceptualPenalty(nn.Module):
    r"""The penalty $N\,d(x, \hat x)$, (B,): N values in an image, and its perceptual distance from the mean of p(x|z).

    With the factor N a weight of 1 adds the distance to the absolute error of each value, as Rombach et al. (2022,
    https://arxiv.org/abs/2112.10752) do; the distortion is a sum over values as well.

    Args:
        distance: d, a module that maps x and y (B, *shape) to (B,), such as `PerceptualDistance`.
    """

    def __init__(self, distance: nn.Module) -> None:
        super().__init__()
        self.distance = distance

    @classmethod
    def of(cls, shape: Sequence[int], network: PerceptualNetwork) -> Self:
        """Returns the penalty for images (C, H, W) by their features in a trained network; see `PerceptualDistance`.

        Raises:
            ShapeError: not gray or color images of at least 16 x 16 pixels.
        """
        if len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < SMALLEST_SIDE:
            raise ShapeError(
                f"Got shape = {list(shape)}; the perceptual distance expected gray or color images (C, H, W), C = 1 "
                f"or 3, of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels. Use perceptual = 0."
            )
        return cls(PerceptualDistance(network))

    def forward(self, model: Model, inference: Inference) -> Tensor:
        """Returns the penalty for the first draw of z, (B,)."""
        distances: Tensor = self.distance(inference.x, inference.likelihood.mean[0])
        return inference.x[0].numel() * distances
