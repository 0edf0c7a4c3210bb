"""Initial values of weights, from random numbers or from data."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vaezoo.errors import ShapeError

LARGEST_NETWORK = 2**28  # weights: 1 GiB of float32


def normal_init(*size: int, scale: float = 1.0) -> Tensor:
    """Returns normal noise of this scale, for parameters to start from.

    On the meta device nothing is drawn: torch would import seconds of its compiler to find the shape of a draw.
    """
    values = torch.empty(size)
    return values if values.is_meta else values.normal_(0.0, scale)


@torch.no_grad()
def scale_last_layer_to_data(network: nn.Module, outputs: Tensor, scale: float) -> None:
    """Rescales the last layer of a network so that data spreads its outputs: mean 0, standard deviation `scale`.

    What is a thousandth as large as the noise of a latent, as after many layers of small weights, is not learnt before
    the rate has silenced it. After Mishkin & Matas (2016, https://arxiv.org/abs/1511.06422), without iterations.

    Args:
        network: a linear layer, or a network whose last layer is its `head`. One with another last layer stays as it
            is, and so does an output that does not vary, as none does over a single example.
        outputs: what it makes of data, (N, channels, ...); of more channels than these the first are meant.
        scale: the standard deviation of each.
    """
    while not isinstance(network, nn.Linear | nn.Conv2d):
        if not isinstance(below := getattr(network, "head", None), nn.Module):
            return
        network = below
    values = outputs.transpose(0, 1).flatten(1).float()
    if values.shape[1] < 2:
        return
    deviation, mean = torch.std_mean(values, 1)
    varies = deviation > 1e-6 * mean.abs()
    factor = torch.where(varies, scale / deviation, 1.0).to(network.weight)
    count = len(factor)
    network.weight[:count].mul_(factor.reshape(-1, *[1] * (network.weight.dim() - 1)))
    if network.bias is not None:
        network.bias[:count].sub_(torch.where(varies, mean, 0.0).to(network.weight)).mul_(factor)


def check_weights(what: str, layers: Iterable[int]) -> None:
    """Raises ShapeError, before anything is allocated, if layers of so many weights each are too large to be meant."""
    total = sum(layers)
    if total > LARGEST_NETWORK:
        raise ShapeError(
            f"Got a {what} of {total:,} weights; expected at most {LARGEST_NETWORK:,}. Choose a smaller shape, latent "
            "or width, or a convolutional backbone."
        )
