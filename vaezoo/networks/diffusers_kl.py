"""Networks in the form of the image autoencoders of diffusers, which take and return pixels in [0, 1].

The files hold networks for pixels in [-1, 1], so that zeros around an image are middle gray: pixels are scaled outside
of the convolutions, since no change of their weights has the same effect at the borders.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import hardtanh

from vaezoo.networks.network import Network
from vaezoo.networks.resnet import ResnetDown, ResnetOptions, ResnetUp

LOG_VARIANCES = (-30.0, 20.0)


class DiffusersDown(Network):
    """A `ResnetDown` for pixels in [-1, 1] and a 1 x 1 convolution after it, from pixels in [0, 1].

    Two outputs (2, *latent) are the mean and the log variance of the convolutions, which is clamped to [-30, 20] and
    returned as log σ; other numbers of outputs are returned as they are.

    Args:
        shape: (C, H, W). out: (P, n) for vectors, (P, D, h, w) for grids. context: width of the context, 0 for none.
        options: see `ResnetOptions`.
        channels: between the last 3 x 3 and the 1 x 1 convolution of a grid, for each of P; 0 for D.
        convolution: whether a 1 x 1 convolution follows.
    """

    def __init__(
        self,
        shape: Sequence[int],
        out: Sequence[int],
        context: int,
        options: ResnetOptions,
        channels: int = 0,
        convolution: bool = True,
    ) -> None:
        super().__init__(shape, out, context)
        grid = len(out) == 4
        inner = (out[0], channels or out[1], *out[2:]) if grid else out
        self.net = ResnetDown(shape, inner, context, options)
        outputs, inputs = out[0] * out[1], out[0] * inner[1]
        convolved = convolution and isinstance(self.net.head, nn.Conv2d)
        self.convolution = nn.Conv2d(inputs, outputs, 1) if convolved else nn.Identity()

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        found = self.convolution(self.net.rows(2.0 * x - 1.0, c)).unflatten(1, (self.out[0], -1))
        if self.out[0] == 2:
            mean, log_variance = found.unbind(1)
            found = torch.stack([mean, 0.5 * hardtanh(log_variance, *LOG_VARIANCES)], 1)
        return cast(Tensor, found)

    def last_layer(self) -> nn.Module:
        """Returns the 1 x 1 convolution if there is one, or the last layer before it."""
        return self.convolution if isinstance(self.convolution, nn.Conv2d) else self.net.last_layer()


class DiffusersUp(Network):
    """A 1 x 1 convolution and a `ResnetUp` for pixels in [-1, 1], to pixels in [0, 1], which are not clamped.

    Args:
        shape, out, context: from a vector (n,) or a grid (D, h, w) to (P, C, H, W).
        options: see `ResnetOptions`.
        channels: between the 1 x 1 and the first 3 x 3 convolution of a grid; 0 for D.
        convolution: whether there is a 1 x 1 convolution.
        mask_encoder: whether the weights of an encoder of masked images are kept, see `MaskEncoder`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        out: Sequence[int],
        context: int,
        options: ResnetOptions,
        channels: int = 0,
        convolution: bool = True,
        mask_encoder: bool = False,
    ) -> None:
        super().__init__(shape, out, context)
        inner = (channels or shape[0], *shape[1:]) if len(shape) == 3 else shape
        self.net = ResnetUp(inner, out, context, options)
        convolved = convolution and isinstance(self.net.stem, nn.Conv2d)
        self.convolution = nn.Conv2d(shape[0], inner[0], 1) if convolved else nn.Identity()
        self.mask_encoder = MaskEncoder(out[1], options.channels) if mask_encoder else nn.Identity()
        self.takes_smaller_grids = self.net.takes_smaller_grids

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, *out)."""
        return (self.net.rows(self.convolution(x), c) + 1.0) / 2.0

    def last_layer(self) -> nn.Module:
        """Returns the last convolution."""
        return self.net.last_layer()

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the bias of each channel to the mean of `output` (*out) over its positions."""
        self.net.set_output_bias(2.0 * output - 1.0)


class StoredConvolution(nn.Module):
    """Weights and biases of a convolution, as buffers: they are saved, and neither used nor trained."""

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(after, before, kernel, kernel))
        self.register_buffer("bias", torch.zeros(after))


class MaskEncoder(nn.Module):
    """The weights with which an asymmetric decoder encodes the known part of an image that is filled in.

    Decoding without a mask does not use them (Zhu et al., 2023, https://arxiv.org/abs/2306.04632). They are kept so
    that a saved model has all tensors of its source.

    Args:
        inputs: channels of the image.
        channels: those of the decoder, the largest grid first.
    """

    DEPTH = 4

    def __init__(self, inputs: int, channels: Sequence[int]) -> None:
        super().__init__()
        first, last = channels[0], channels[-1]
        widths = [inputs, *(min(first * 2**depth, last) for depth in range(self.DEPTH)), last]
        self.layers = nn.ModuleList(
            StoredConvolution(before, after, 3 if place < 2 else 4)
            for place, (before, after) in enumerate(pairwise(widths))
        )
