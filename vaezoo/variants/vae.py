"""The variational autoencoder."""

from vaezoo.core import VAE
from vaezoo.decoders import Decoder
from vaezoo.encoders import GaussianEncoder
from vaezoo.objectives import WeightedObjective
from vaezoo.priors import StandardNormalPrior
from vaezoo.registry import Architecture, register


@register("vae")
def vae(base: VAE | None, architecture: Architecture) -> VAE:
    r"""Minimizes D + R, the negative evidence lower bound, with a Gaussian posterior and a normal prior.

    $$\log p(x) \ge \mathbb{E}_{\mathcal{N}(z;\mu(x),\sigma^2(x))}[\log p(x|z)]
        - \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - 2 \log \sigma_j)$$

    The rate is in closed form. Use it first, and as the baseline of all other variants. Many introductions train
    something else: the cross-entropy of gray pixels averaged over pixels, which weights the rate hundreds of times too
    strongly.

    See also: `beta-vae`, which weights the rate; `ae`, which has none.

    References: Kingma & Welling (2014), https://arxiv.org/abs/1312.6114
    """
    shape, latent, context = architecture.shape, architecture.latent, architecture.context
    head = architecture.head()
    network = architecture.network()
    return VAE(
        GaussianEncoder(network.down(shape, (2, *latent), context), latent),
        Decoder(network.up(latent, (head.outputs, *shape), context), head),
        StandardNormalPrior(latent),
        WeightedObjective(),
        shape=shape,
        latent=latent,
        context=context,
    )
