"""The VAE with a flow as its prior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.elbo import Part
from vaezoo.flows import Couplings, FlowDistribution
from vaezoo.model import VAE
from vaezoo.networks.mlp import Width
from vaezoo.registry import Architecture, register


class FlowPrior(Part):
    """p(z|c) by a flow from z to N(0, 1); it starts as N(0, 1).

    Args:
        latent: the event shape of z.
        flow: over z as a vector; it sees the context where there is one.
    """

    zeros: Tensor

    def __init__(self, latent: Sequence[int], flow: Couplings) -> None:
        super().__init__()
        self.flow = flow
        self.register_buffer("zeros", torch.zeros(*latent), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns p(z|c): without batch dimensions where there is no context."""
        return FlowDistribution(self.flow, self.zeros, c)


@register(
    "flow-prior-vae",
    changes="prior",
    year=2017,
    paper="Chen et al.",
    url="https://arxiv.org/abs/1611.02731",
    rate="sampled",
)
def flow_prior_vae(
    base: VAE,
    architecture: Architecture,
    *,
    transforms: Annotated[int, Meta(ge=1, le=100)] = 8,
    hidden: Annotated[tuple[Width, ...], Meta(max_length=8)] = (128, 128),
) -> VAE:
    r"""Minimises $D + R$ with a RealNVP flow as prior, learnt along with the rest.

    $$\log p(z) = \log \mathcal{N}(f(z); 0, 1) + \log \left|\det \frac{\partial f}{\partial z}\right|$$

    Hyperparameters:
        transforms: how many affine couplings f is made of (Dinh et al., 2017, https://arxiv.org/abs/1605.08803).
        hidden: widths of the hidden layers of each coupling's network.

    Chen et al. take an autoregressive flow; couplings draw as quickly as they tell a density. With a context the prior
    is one for each context. The layers are vaezoo's own, since the networks of a library of flows know nothing of
    contexts with leading dimensions or of half precision. The rate is sampled. When to use it: for the best likelihood
    that a small encoder and decoder can give, and for better samples, since the prior learns where posteriors are.
    It is confused with `iaf-vae`, whose flow is in the posterior (the two compose), and with a flow that is fitted
    after training, which leaves the bound as it was.
    """
    flow = Couplings(math.prod(architecture.latent), architecture.context, transforms, hidden)
    return base.replace(prior=FlowPrior(architecture.latent, flow))
