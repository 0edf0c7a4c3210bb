"""The VAE with planar flows in the posterior."""

import math
from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders import PlanarEncoder
from vaezoo.registry import Architecture, register


@register("planar-vae", changes="encoder", rate="sampled", example={"flows": 2})
def planar_vae(base: VAE, architecture: Architecture, *, flows: Annotated[int, Meta(ge=1, le=1000)] = 10) -> VAE:
    r"""Minimizes D + R with a posterior transformed by planar flows.

    $$z_k = z_{k-1} + \hat u_k \tanh(w_k^\top z_{k-1} + b_k), \qquad
        \log q(z_F|x) = \log q(z_0|x) - \sum_k \log |1 + \hat u_k^\top \psi_k(z_{k-1})|$$

    Hyperparameters:
        flows: $F \ge 1$, number of flows; up to 80 in the paper.

    All parameters of all flows are outputs of the encoder, as in the text of the paper; implementations often share
    them between examples. $\hat u$ is the paper's projection with $m(0) = 0$, so that a new model starts near the
    Gaussian posterior with any number of latents. The rate is sampled. Use it as the classic baseline of flows with
    few latents; each flow adds one ridge only, so that with many latents `iaf-vae` gives more.

    See also: `iaf-vae`, which scales to many latents; `flow-prior-vae`, whose flow is in the prior.

    References: Rezende & Mohamed (2015), https://arxiv.org/abs/1505.05770
    """
    size = math.prod(architecture.latent)
    network = architecture.network().down(
        architecture.shape, (2 * size + flows * (2 * size + 1),), architecture.context
    )
    return base.replace(encoder=PlanarEncoder(network, architecture.latent, flows))
