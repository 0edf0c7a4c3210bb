"""The VAE whose posterior has a full covariance."""

from vaezoo.core import VAE, require_vector_latent
from vaezoo.encoders import CholeskyEncoder
from vaezoo.registry import Architecture, register


@register("full-covariance-vae", changes="encoder")
def full_covariance_vae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimizes D + R with a posterior whose latents may be correlated given x.

    $$q(z|x) = \mathcal{N}(\mu, L L^\top), \qquad
        R = \tfrac12 \Big(\sum_{ij} L_{ij}^2 + \|\mu\|^2 - n\Big) - \sum_j \log L_{jj}$$

    L is lower triangular with a positive diagonal; its n(n + 1)/2 entries are outputs of the encoder (section 2.5.1 of
    the paper). The rate is in closed form, also with the learned prior of `cvae`. The encoder's last layer and each
    draw cost n², so that n is some dozens at most. Use it where few latents explain each other away and a diagonal
    posterior leaves a gap.

    See also: `iaf-vae`, for many latents. A prior of full covariance would change nothing, since the decoder can undo
    it.

    References: Kingma & Welling (2019), https://arxiv.org/abs/1906.02691
    """
    latent = architecture.latent
    size = require_vector_latent(latent, "full-covariance-vae")
    outputs = (2 * size + size * (size - 1) // 2,)
    network = architecture.network().down(architecture.shape, outputs, architecture.context)
    return base.replace(encoder=CholeskyEncoder(network, latent))
