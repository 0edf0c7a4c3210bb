"""Gaps in x, marked by NaN: networks that take them, and their replacement by means."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vaezoo.networks.network import Network


class GapNetwork(Network):
    """A network on x with 0 in the place of gaps, and the mask of the observed elements along the first axis of x.

    Args:
        network: takes inputs of shape `with_mask(shape)`.
        shape: the event shape of x.
        features: the function of x before gaps are set to 0; it keeps shape and order of the elements.
    """

    def __init__(self, network: Network, shape: Sequence[int], features: Callable[[Tensor], Tensor]) -> None:
        super().__init__(shape, network.out, network.context)
        self.network, self.features = network, features
        network.mask_channels = shape[0]
        self.takes_smaller_grids = network.takes_smaller_grids

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Returns (*leading, *out) for x (*leading, *shape)."""
        gap = x.isnan()
        values = torch.where(gap, 0.0, self.features(torch.where(gap, 1.0, x)))  # a derivative at NaN would be NaN
        found: Tensor = self.network(torch.cat([values, (~gap).to(values.dtype)], x.dim() - len(self.shape)), c)
        return found

    def last_layer(self) -> nn.Module | None:
        """Returns the last layer of the network."""
        return self.network.last_layer()

    def set_output_bias(self, output: Tensor) -> None:
        """Sets the last bias of the network."""
        self.network.set_output_bias(output)


def with_mask(shape: Sequence[int]) -> tuple[int, ...]:
    """Returns the event shape of x with its mask: the first axis is twice as long."""
    return (2 * shape[0], *shape[1:])


def fill_gaps(x: Tensor) -> Tensor:
    """Returns x (B, *shape) with the mean of the observed values of an element in its gaps, 0 without any."""
    return torch.where(x.isnan(), x.nanmean(0).nan_to_num(), x)
