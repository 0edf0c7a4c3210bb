r"""Flows: invertible maps f whose Jacobian is known, and distributions that are made by them.

$$\log p(z) = \log p(u) + \log\left|\det \frac{\partial u}{\partial z}\right|$$

They are few and short, and their networks are those of `vaezoo.networks`: contexts, leading dimensions and half
precision are handled there. A library of flows would have brought networks of its own kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.nn.functional import linear, logsigmoid, relu

from vaezoo.distributions import DiagonalNormal, JointlyDrawn, StandardNormal, full_precision
from vaezoo.networks import Network, check_weights, join
from vaezoo.networks.mlp import MLP

__all__ = ["MADE", "Couplings", "FlowDistribution", "FlowPosterior", "InverseAutoregressive"]

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


class FlowDistribution(JointlyDrawn):
    """The distribution of z where its image u under a flow is N(0, 1).

    Args:
        flow: from z to u (`forward`) and back (`inverse`), both with log |det ∂u/∂z|.
        zeros: (*latent), whose type and device the draws have.
        c: contexts (B, context), which then make the batch, or None.
    """

    def __init__(self, flow: Couplings, zeros: Tensor, c: Tensor | None = None) -> None:
        self.flow, self.zeros, self.c = flow, zeros, c
        super().__init__(() if c is None else c.shape[:1], zeros.shape)

    @property
    def support(self) -> constraints.Constraint:
        """The whole space."""
        return constraints.independent(constraints.real, self.zeros.dim())

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, *batch, *latent) and its log density (*sample, *batch), nats."""
        flat = self.zeros.flatten()
        u, log_density = StandardNormal(flat, 1).expand(self.batch_shape).rsample_and_log_prob(sample_shape)
        z, log_det = self.flow.inverse(u, self.c)
        return z.unflatten(-1, self.event_shape), log_density + log_det

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns the log density of `value` (*sample, *batch, *latent), (*sample, *batch), nats."""
        u, log_det = self.flow.forward(value.flatten(value.dim() - self.zeros.dim()), self.c)
        return StandardNormal(self.zeros.flatten(), 1).log_prob(u) + log_det


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
        features = join(x, c)
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


class FlowPosterior(JointlyDrawn):
    """What a flow makes of a normal; its density is known of its own draws only.

    Args:
        base: the normal, over (B, D).
        flow: maps z (..., B, D) to z' and log |det ∂z'/∂z| (..., B).
        latent: the event shape of z', of D elements.
    """

    def __init__(
        self, base: DiagonalNormal, flow: Callable[[Tensor], tuple[Tensor, Tensor]], latent: Sequence[int]
    ) -> None:
        self.base, self.flow, self.latent = base, flow, tuple(latent)
        super().__init__(base.batch_shape, latent)

    @property
    def support(self) -> constraints.Constraint:
        """The whole space."""
        return constraints.independent(constraints.real, len(self.latent))

    @property
    def center(self) -> Tensor:
        """The image of the normal's mean, (B, *latent)."""
        return self._shaped(self.flow(self.base.loc)[0])

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Returns z (*sample, B, *latent) and its log density (*sample, B), nats."""
        start, log_density = self.base.rsample_and_log_prob(sample_shape)
        z, log_det = self.flow(start)
        return self._shaped(z), log_density - log_det

    def _shaped(self, z: Tensor) -> Tensor:
        shaped: Tensor = z.unflatten(-1, self.latent)
        return shaped
