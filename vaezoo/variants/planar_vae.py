"""The VAE with planar flows in its posterior."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders.flow import PlanarEncoder
from vaezoo.registry import Architecture, register


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
