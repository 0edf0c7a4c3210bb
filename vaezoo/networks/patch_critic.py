"""A critic of image patches."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from vaezoo.networks.perceptron import MLP
from vaezoo.networks.resnet import normalization

NEGATIVE_SLOPE = 0.2  # of the leaky ReLU


class PatchCritic(nn.Module):
    """A convolutional network with a logit for each overlapping patch of an image.

    Isola et al., 2017, https://arxiv.org/abs/1611.07004, with group in place of batch normalization, which would couple
    the examples of a batch.

    Args:
        shape: (C, H, W) of the images.
        width: channels after the first of `depth` convolutions of stride 2, each of which doubles them.
        depth: number of these convolutions, fewer for small images.

    """

    def __init__(self, shape: Sequence[int], width: int, depth: int = 3) -> None:
        super().__init__()
        halvings = max(1, min(depth, min(shape[1:]).bit_length() - 2))
        widths = [shape[0], *(width * 2**stage for stage in range(halvings))]
        layers: list[nn.Module] = []
        for stage, (before, after) in enumerate(pairwise(widths)):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1)]
            layers += [normalization(after)] if stage else []
            layers += [nn.LeakyReLU(NEGATIVE_SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits (B, h, w) of the patches of images (B, C, H, W)."""
        logits: Tensor = self.layers(x.to(next(self.parameters()).dtype))
        return logits.squeeze(1)


def critic_of(shape: Sequence[int], width: int) -> nn.Module:
    """Returns a critic of patches for images (C, H, W), and a perceptron of two layers for other shapes."""
    if len(shape) == 3:
        return PatchCritic(shape, width)
    return MLP(shape, (1,), 0, [width, width], "leaky-relu")
