r"""Flows: invertible maps f whose Jacobian is known, and distributions that are made by them.

$$\log p(z) = \log p(u) + \log\left|\det \frac{\partial u}{\partial z}\right|$$

They are few and short, and their networks are those of `vaezoo.networks`: contexts, leading dimensions and half
precision are handled there. A library of flows would have brought networks of its own kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, relu

from vaezoo.core.precision import full_precision
from vaezoo.networks.initialization import check_weights
from vaezoo.networks.network import Network, append_context
from vaezoo.networks.perceptron import MLP

__all__ = ["MADE", "Couplings", "InverseAutoregressive"]

LARGEST_LOG_SCALE = 2.0  # by which a coupling may stretch or shrink a latent
OPEN = 1.5  # bias of a gate: it starts by keeping most of z (Kingma et al., 2016, recommend 1 to 2)


class Coupling(nn.Module):
    r"""An affine coupling: $u = m \odot z + (1 - m) \odot (z\, e^{s(m \odot z)} + t(m \odot z))$ (Dinh et al., 2017).

    It starts as the identity.

    Args:
        mask: m, (D,) of 0 and 1.
        context: width of the context, 0 for none.
        hidden: widths of the hidden layers of the network for s and t.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, context: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.network = MLP((len(mask),), (2, len(mask)), context, hidden, "relu")
        nn.init.zeros_(self.network.head.weight)
        nn.init.zeros_(self.network.head.bias)

    def forward(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns u (..., D) and log |det ∂u/∂z| (...)."""
        shift, log_scale = self._map(z, c)
        return z * log_scale.exp() + shift, log_scale.sum(-1)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns z (..., D) and log |det ∂u/∂z| (...)."""
        shift, log_scale = self._map(u, c)
        return (u - shift) * (-log_scale).exp(), log_scale.sum(-1)

    def _map(self, z: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        raw = full_precision(self.network(z * self.mask, c)) * (1.0 - self.mask)
        shift, log_scale = raw.unbind(-2)
        return shift, LARGEST_LOG_SCALE * (log_scale / LARGEST_LOG_SCALE).tanh()


class Couplings(nn.Module):
    """RealNVP: affine couplings whose masks part the latents in ever new ways.

    Args:
        size: D. context: width of the context, 0 for none. transforms: how many couplings. hidden: widths of the hidden
            layers of each.
    """

    def __init__(self, size: int, context: int, transforms: int, hidden: Sequence[int]) -> None:
        super().__init__()
        places, digits = torch.arange(size, device="cpu"), max(1, (size - 1).bit_length())
        # By one binary digit of their number after the other: any two latents are parted by one of them.
        masks = [(places >> (number // 2 % digits)) % 2 == number % 2 for number in range(transforms)]
        own = torch.empty(0)  # of the type and on the device of what is made now
        self.layers = nn.ModuleList(Coupling(mask.to(own), context, hidden) for mask in masks)

    def forward(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns u (..., D) and log |det ∂u/∂z| (...)."""
        total: Tensor | float = 0.0
        for layer in self.layers:
            z, log_det = layer(z, c)
            total = total + log_det
        return z, torch.as_tensor(total)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns z (..., D) and log |det ∂u/∂z| (...)."""
        total: Tensor | float = 0.0
        for layer in reversed(self.layers):
            assert isinstance(layer, Coupling)
            u, log_det = layer.inverse(u, c)
            total = total + log_det
        return u, torch.as_tensor(total)


class MADE(Network):
    """A perceptron whose output j depends on inputs before j alone, and on the whole context (Germain et al., 2015).

    Args:
        size: D. outputs: numbers for each input. context: its width, 0 for none. hidden: widths of the hidden layers.
    """

    def __init__(self, size: int, outputs: int, context: int, hidden: Sequence[int]) -> None:
        super().__init__((size,), (outputs, size), context)
        widths = [size + context, *hidden, outputs * size]
        check_weights("autoregressive network", (before * after for before, after in pairwise(widths)))
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        numbers = partial(torch.arange, device="cpu")
        inputs = torch.cat([numbers(1, size + 1), 0 * numbers(context)])
        # A unit of degree d sees inputs up to d, and one of degree 0 the context alone.
        degrees = [inputs, *(numbers(width) % size for width in hidden), numbers(size).repeat(outputs)]
        for number, (before, after) in enumerate(pairwise(degrees)):
            mask = (before <= after.unsqueeze(-1)).to(torch.empty(0))
            self.register_buffer(f"mask_{number}", mask, persistent=False)

    def rows(self, x: Tensor, c: Tensor | None) -> Tensor:
        """Returns (rows, outputs · D)."""
        features = append_context(x, c)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            features = relu(features) if number else features
            features = linear(features, layer.weight * self.get_buffer(f"mask_{number}"), layer.bias)
        return features


class InverseAutoregressive(nn.Module):
    r"""Steps $z' = \sigma(s) \odot z + (1 - \sigma(s)) \odot m$, (m, s) autoregressive in z, in ever the other order.

    Kingma et al., 2016, https://arxiv.org/abs/1606.04934, algorithm 1 with their equations (12) to (14).

    Args:
        size: D. context: width of what the networks are told beside z. transforms: how many steps. hidden: widths of
            the hidden layers of each.
    """

    def __init__(self, size: int, context: int, transforms: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(MADE(size, 2, context, hidden) for _ in range(transforms))

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z' (..., B, D) and log |det ∂z'/∂z| (..., B); h (B, …) is what the encoder tells of each example."""
        total = torch.zeros_like(z[..., 0])
        for network in self.networks:
            shift, gate = full_precision(network(z, h)).unbind(-2)
            keep = gate + OPEN
            z = (keep.sigmoid() * z + (-keep).sigmoid() * shift).flip(-1)
            total = total + logsigmoid(keep).sum(-1)
        return z, total
