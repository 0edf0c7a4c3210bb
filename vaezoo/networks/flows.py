r"""Normalizing flows: invertible maps z -> u that return the log determinant of their Jacobian.

$$\log p(z) = \log p(u) + \log\left|\det \frac{\partial u}{\partial z}\right|$$

Their networks are those of `vaezoo.networks`, which handle contexts, leading dimensions and half precision; the
networks of a library of flows would not.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, relu

from vaezoo.core import full_precision
from vaezoo.networks.network import Network, append_context, check_weights
from vaezoo.networks.perceptron import MLP

LARGEST_LOG_SCALE = 2.0  # of a coupling
GATE_BIAS = 1.5  # so that a gate keeps most of z at the start (Kingma et al., 2016, recommend 1 to 2)


class Coupling(nn.Module):
    r"""An affine coupling, $u = m \odot z + (1 - m) \odot (z\, e^{s(m \odot z)} + t(m \odot z))$ (Dinh et al., 2017).

    Initially the identity.

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
        shift, log_scale = self._shift_and_log_scale(z, c)
        return z * log_scale.exp() + shift, log_scale.sum(-1)

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns z (..., D) and log |det ∂u/∂z| (...)."""
        shift, log_scale = self._shift_and_log_scale(u, c)
        return (u - shift) * (-log_scale).exp(), log_scale.sum(-1)

    def _shift_and_log_scale(self, z: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
        raw = full_precision(self.network(z * self.mask, c)) * (1.0 - self.mask)
        shift, log_scale = raw.unbind(-2)
        return shift, LARGEST_LOG_SCALE * (log_scale / LARGEST_LOG_SCALE).tanh()


class Couplings(nn.Module):
    """RealNVP: affine couplings with alternating binary masks (Dinh et al., 2017, https://arxiv.org/abs/1605.08803).

    Args:
        size: D. context: width of the context, 0 for none. transforms: number of couplings. hidden: widths of the
            hidden layers of each.
    """

    def __init__(self, size: int, context: int, transforms: int, hidden: Sequence[int]) -> None:
        super().__init__()
        digits = max(1, (size - 1).bit_length())
        self.layers = nn.ModuleList()
        for number in range(transforms):
            mask = torch.empty(size)
            if not mask.is_meta:  # where torch would import its compiler, and where values do not matter
                # By each binary digit of the latents' positions in turn, so that any two latents are in different
                # halves of one mask.
                mask.copy_((torch.arange(size) >> (number // 2 % digits)) % 2 == number % 2)
            self.layers.append(Coupling(mask, context, hidden))

    def forward(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns u (..., D) and log |det ∂u/∂z| (...)."""
        total = torch.zeros_like(z[..., 0])
        for layer in self.layers:
            z, log_det = layer(z, c)
            total = total + log_det
        return z, total

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns z (..., D) and log |det ∂u/∂z| (...)."""
        total = torch.zeros_like(u[..., 0])
        for layer in reversed(self.layers):
            assert isinstance(layer, Coupling)
            u, log_det = layer.inverse(u, c)
            total = total + log_det
        return u, total


class MADE(Network):
    """A masked perceptron: output j depends on the inputs before j alone, and on the context (Germain et al., 2015).

    Args:
        size: D. outputs: numbers per input. context: its width, 0 for none. hidden: widths of the hidden layers.
    """

    def __init__(self, size: int, outputs: int, context: int, hidden: Sequence[int]) -> None:
        super().__init__((size,), (outputs, size), context)
        widths = [size + context, *hidden, outputs * size]
        check_weights("autoregressive network", (before * after for before, after in pairwise(widths)))
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        masks = [torch.empty(after, before) for before, after in pairwise(widths)]
        if not masks[0].is_meta:  # where torch would import its compiler, and where values do not matter
            inputs = torch.cat([torch.arange(1, size + 1), torch.zeros(context, dtype=torch.int64)])
            # A unit of degree d depends on inputs up to d, and one of degree 0 on the context alone.
            degrees = [inputs, *(torch.arange(width) % size for width in hidden), torch.arange(size).repeat(outputs)]
            for mask, (before, after) in zip(masks, pairwise(degrees), strict=True):
                mask.copy_(before <= after.unsqueeze(-1))
        for number, mask in enumerate(masks):
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
    r"""Steps $z' = \sigma(s) \odot z + (1 - \sigma(s)) \odot m$ with (m, s) autoregressive in z; each reverses z.

    Kingma et al., 2016, https://arxiv.org/abs/1606.04934, algorithm 1 with their equations (12) to (14).

    Args:
        size: D. context: width of h(x), the networks' second input. transforms: number of steps. hidden: widths of the
            hidden layers of each.
    """

    def __init__(self, size: int, context: int, transforms: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(MADE(size, 2, context, hidden) for _ in range(transforms))

    def forward(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z' (..., B, D) and log |det ∂z'/∂z| (..., B); h (B, context)."""
        total = torch.zeros_like(z[..., 0])
        for network in self.networks:
            shift, gate = full_precision(network(z, h)).unbind(-2)
            keep = gate + GATE_BIAS
            z = (keep.sigmoid() * z + (-keep).sigmoid() * shift).flip(-1)
            total = total + logsigmoid(keep).sum(-1)
        return z, total
