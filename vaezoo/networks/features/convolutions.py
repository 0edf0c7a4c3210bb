"""Frozen convolutional networks that return the features of each of their grids, and the files of their weights."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Final

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import conv2d

from vaezoo.errors import CorruptWeightsError, ShapeError

Pool = Callable[[Tensor, int], Tensor]
PACKAGE: Final = "vaezoo.networks.features"


class Convolutions(nn.Module):
    """3 x 3 convolutions with ReLUs; between two groups of them the grid is halved. Nothing of it is trained or saved.

    Args:
        tensors: "weight_0", "bias_0", "weight_1", … in order.
        groups: numbers of convolutions on each grid.
        pool: function of (features, 2) that halves a grid.
        mean: subtracted from the channels of images with pixels in [0, 1].
        deviation: by which the channels are divided.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        groups: Sequence[int],
        pool: Pool,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        deviation: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        self.groups, self.pool = tuple(groups), pool
        for name, values in (("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.float(), persistent=False)

    @property
    def smallest(self) -> int:
        """The smallest side of an image."""
        return int(2 ** (len(self.groups) - 1))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Returns the features on each grid, (B, F, h, w), of images (B, 3, H, W) with pixels in [0, 1].

        Raises:
            ShapeError: the images are too small.
        """
        if min(images.shape[-2:]) < self.smallest:
            raise ShapeError(
                f"Got images of shape {tuple(images.shape[1:])}; the perceptual network expected sides of at least "
                f"{self.smallest} pixels. Leave the perceptual distance out."
            )
        found = (images.to(self.mean.dtype) - self.mean) / self.deviation
        result, number = [], 0
        for place, count in enumerate(self.groups):
            found = self.pool(found, 2) if place else found
            for _ in range(count):
                weight, bias = getattr(self, f"weight_{number}"), getattr(self, f"bias_{number}")
                found, number = conv2d(found, weight, bias, padding=1).relu(), number + 1
            result.append(found)
        return result


def packaged_tensors(file: str, expected: str) -> dict[str, Tensor]:
    """Returns the tensors of a file of this package, in float32.

    Raises:
        CorruptWeightsError: its SHA-256 is not the expected one.
    """
    data = (files(PACKAGE) / file).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != expected:
        raise CorruptWeightsError(
            f"{file}: got SHA-256 {digest}; expected {expected}. The installation is damaged: reinstall vaezoo."
        )
    return {key: tensor.float() for key, tensor in load(data).items()}
