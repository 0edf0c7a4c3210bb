"""The VAE with a flow prior."""

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.networks import Couplings
from vaezoo.networks.perceptron import Width
from vaezoo.priors import FlowPrior
from vaezoo.registry import Architecture, register


@register("flow-prior-vae", changes="prior", rate="sampled", example={"transforms": 2, "hidden": (16,)})
def flow_prior_vae(
    base: VAE,
    architecture: Architecture,
    *,
    transforms: Annotated[int, Meta(ge=1, le=100)] = 8,
    hidden: Annotated[tuple[Width, ...], Meta(max_length=8)] = (128, 128),
) -> VAE:
    r"""Minimizes D + R with a RealNVP flow as prior, learned jointly.

    $$\log p(z) = \log \mathcal{N}(f(z); 0, 1) + \log \left|\det \frac{\partial f}{\partial z}\right|$$

    Hyperparameters:
        transforms: number of affine couplings of f (Dinh et al., 2017).
        hidden: widths of the hidden layers of each coupling's network.

    Chen et al. use an autoregressive flow; couplings sample as fast as they evaluate densities. With a context the
    prior is conditional. The rate is sampled. Use it for the best likelihood of a small encoder and decoder, and for
    better samples, since the prior follows the aggregate posterior.

    See also: `iaf-vae`, whose flow is in the posterior (the two compose); `vaezoo.fit_sampler`, which fits a flow after
    training and leaves the bound unchanged.

    References:
        Chen et al. (2017), https://arxiv.org/abs/1611.02731
        RealNVP: Dinh et al. (2017), https://arxiv.org/abs/1605.08803
    """
    flow = Couplings(math.prod(architecture.latent), architecture.context, transforms, hidden)
    return base.replace(prior=FlowPrior(architecture.latent, flow))
