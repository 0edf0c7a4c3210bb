"""The VAE with inverse autoregressive flows in the posterior."""

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders import AutoregressiveEncoder
from vaezoo.networks import InverseAutoregressive
from vaezoo.networks.perceptron import Width
from vaezoo.registry import Architecture, register


@register("iaf-vae", changes="encoder", rate="sampled", example={"iaf_hidden": (32,)})
def iaf_vae(
    base: VAE,
    architecture: Architecture,
    *,
    iaf_transforms: Annotated[int, Meta(ge=1, le=100)] = 2,
    iaf_hidden: Annotated[tuple[Width, ...], Meta(max_length=8)] = (320,),
) -> VAE:
    r"""Minimizes D + R with a posterior transformed by inverse autoregressive flows.

    $$z_t = \sigma(s_t) \odot z_{t-1} + (1 - \sigma(s_t)) \odot m_t, \qquad
        \log q(z_T|x) = \log q(z_0|x) - \sum_t \sum_j \log \sigma(s_{t,j})$$

    Hyperparameters:
        iaf_transforms: $T \ge 1$, number of steps; the order of the latents is reversed after each.
        iaf_hidden: widths of the hidden layers of each step's masked network.

    $m_t$ and $s_t$ are autoregressive in $z_{t-1}$ and depend on the encoder's output $h(x)$, which has as many
    elements as z. A draw and its density take one pass through each network; the density of another z would take one
    for each latent. The rate is sampled. Use it for a tighter bound with many latents, at the cost of T more networks.

    See also: masked autoregressive flows, the inverse of this, with fast densities and slow draws; `flow-prior-vae`,
    whose flow is in the prior.

    References: Kingma et al. (2016), https://arxiv.org/abs/1606.04934
    """
    latent, shape, context = architecture.latent, architecture.shape, architecture.context
    size = math.prod(latent)
    network = architecture.network().down(shape, (3, *latent), context)
    flow = InverseAutoregressive(size, size, iaf_transforms, iaf_hidden)
    return base.replace(encoder=AutoregressiveEncoder(network, latent, flow))
