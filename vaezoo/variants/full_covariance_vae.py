"""The VAE whose posterior has a full covariance."""

from __future__ import annotations

from vaezoo.core import VAE
from vaezoo.core.part import require_vector_latent
from vaezoo.encoders import CholeskyEncoder
from vaezoo.registry import Architecture, register


@register(
    "full-covariance-vae",
    changes="encoder",
    year=2019,
    paper="Kingma & Welling",
    url="https://arxiv.org/abs/1906.02691",
)
def full_covariance_vae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimises $D + R$ with a posterior whose latents may be correlated given x.

    $$q(z|x) = \mathcal{N}(\mu, L L^\top), \qquad
        R = \tfrac12 \Big(\sum_{ij} L_{ij}^2 + \|\mu\|^2 - n\Big) - \sum_j \log L_{jj}$$

    L is lower triangular with a positive diagonal; its n(n + 1)/2 entries come from the encoder (section 2.5.1). The
    rate is in closed form, also with the learnt prior of `cvae`. When to use it: where few latents explain each
    other away, so that a diagonal posterior leaves a gap, and n is some dozens at most: the encoder's last layer and
    each draw cost n². For many latents take `iaf-vae`. It is confused with a prior of full covariance, which changes
    nothing: the decoder can undo it.
    """
    latent = architecture.latent
    size = require_vector_latent(latent, "full-covariance-vae")
    outputs = (2 * size + size * (size - 1) // 2,)
    network = architecture.network().down(architecture.shape, outputs, architecture.context)
    return base.replace(encoder=CholeskyEncoder(network, latent))
