"""Encoders whose posterior is a Gaussian transformed by a normalizing flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from vaezoo.core import Part
from vaezoo.core.part import network_inputs
from vaezoo.core.precision import full_precision
from vaezoo.distributions import FlowPosterior
from vaezoo.distributions.normal import normal_from
from vaezoo.networks import InverseAutoregressive


class AutoregressiveEncoder(Part):
    """A normal, moved by inverse autoregressive steps that are told h(x); the network gives μ, log σ and h."""

    knows_density = False

    def __init__(self, network: nn.Module, latent: Sequence[int], flow: InverseAutoregressive) -> None:
        super().__init__()
        self.network, self.latent, self.flow = network, tuple(latent), flow

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        raw = full_precision(self.network(*network_inputs(x, c))).flatten(2)  # (B, 3, D)
        return FlowPosterior(normal_from(raw[:, :2], 1), partial(self.flow, h=raw[:, 2]), self.latent)


LEAST = -15.0  # of w·u: beyond it the flow would be singular to rounding


def planar(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Returns z + û tanh(w·z + b) and log |det| for z (..., B, D); u, w (B, D) and b (B,) are given, û as in A.1."""
    product = (w * u).sum(-1)
    lifted = softplus(product.clamp(min=LEAST))  # 1 + w·û
    # û = u + (m(w·u) - w·u) w/|w|² with m(a) = log(1 + e^a) - 1, so that w·û > -1: each flow can be inverted.
    moved = u + ((lifted - 1.0 - product) / (w.square().sum(-1) + 1e-9)).unsqueeze(-1) * w
    height = ((w * z).sum(-1) + b).tanh()
    # 1 + (1 - h²) w·û as a sum of what is positive.
    return z + moved * height.unsqueeze(-1), (height.square() + (1.0 - height.square()) * lifted).log()


def planars(z: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the image of z (..., B, D) under F planar flows in turn and log |det| (..., B); raw (B, F, 2 D + 1)."""
    total = torch.zeros_like(z[..., 0])
    for each in raw.unbind(1):
        u, w, b = each.split([z.shape[-1], z.shape[-1], 1], -1)
        z, log_det = planar(z, u, w, b.squeeze(-1))
        total = total + log_det
    return z, total


class PlanarEncoder(Part):
    """A normal, moved by planar flows; the network gives the parameters of both, (B, 2 D + F (2 D + 1))."""

    knows_density = False

    def __init__(self, network: nn.Module, latent: Sequence[int], flows: int) -> None:
        super().__init__()
        self.network, self.latent, self.flows = network, tuple(latent), flows

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        size = math.prod(self.latent)
        first, rest = self.network(*network_inputs(x, c)).split([2 * size, self.flows * (2 * size + 1)], -1)
        raw = full_precision(rest).unflatten(-1, (self.flows, 2 * size + 1))
        return FlowPosterior(normal_from(first.unflatten(-1, (2, size)), 1), partial(planars, raw=raw), self.latent)
