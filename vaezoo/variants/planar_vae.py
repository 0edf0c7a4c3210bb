"""The VAE with planar flows in its posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from vaezoo.distributions import full_precision, normal_from
from vaezoo.elbo import Part
from vaezoo.flows import FlowPosterior
from vaezoo.model import VAE
from vaezoo.parts import given
from vaezoo.registry import Architecture, register

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
        first, rest = self.network(*given(x, c)).split([2 * size, self.flows * (2 * size + 1)], -1)
        raw = full_precision(rest).unflatten(-1, (self.flows, 2 * size + 1))
        return FlowPosterior(normal_from(first.unflatten(-1, (2, size)), 1), partial(planars, raw=raw), self.latent)


@register(
    "planar-vae",
    changes="encoder",
    year=2015,
    paper="Rezende & Mohamed",
    url="https://arxiv.org/abs/1505.05770",
    rate="sampled",
)
def planar_vae(base: VAE, architecture: Architecture, *, flows: Annotated[int, Meta(ge=1, le=1000)] = 10) -> VAE:
    r"""Minimises $D + R$ with a posterior that planar flows have bent.

    $$z_k = z_{k-1} + \hat u_k \tanh(w_k^\top z_{k-1} + b_k), \qquad
        \log q(z_F|x) = \log q(z_0|x) - \sum_k \log |1 + \hat u_k^\top \psi_k(z_{k-1})|$$

    Hyperparameters:
        flows: $F \ge 1$, how many; the paper goes up to 80.

    All parameters of all flows come from the encoder, as in the paper's text; implementations often share them between
    examples. The rate is sampled. When to use it: as the classic baseline of flows with few latents; each flow adds one
    ridge only, so with many latents `iaf-vae` gives more. It is confused with `flow-prior-vae`, whose flow is in the
    prior.
    """
    size = math.prod(architecture.latent)
    network = architecture.network().down(
        architecture.shape, (2 * size + flows * (2 * size + 1),), architecture.context
    )
    return base.replace(encoder=PlanarEncoder(network, architecture.latent, flows))
