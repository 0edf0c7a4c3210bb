"""The VAE with a flow as its prior."""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.networks import Couplings
from vaezoo.networks.perceptron import Width
from vaezoo.priors.flow import FlowPrior
from vaezoo.registry import Architecture, register


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
