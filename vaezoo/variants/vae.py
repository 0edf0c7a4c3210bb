"""The variational autoencoder itself."""

from __future__ import annotations

from vaezoo.core import VAE
from vaezoo.decoders import Decoder
from vaezoo.encoders import GaussianEncoder
from vaezoo.objectives import WeightedObjective
from vaezoo.priors.normal import StandardNormalPrior
from vaezoo.registry import Architecture, register


@register("vae", year=2014, paper="Kingma & Welling", url="https://arxiv.org/abs/1312.6114")
def vae(base: VAE | None, architecture: Architecture) -> VAE:
    r"""Minimises $D + R$, the negative evidence lower bound, with a Gaussian posterior and a standard normal prior.

    $$\log p(x) \ge \mathbb{E}_{\mathcal{N}(z;\mu(x),\sigma^2(x))}[\log p(x|z)]
        - \tfrac12 \sum_j (\mu_j^2 + \sigma_j^2 - 1 - 2 \log \sigma_j)$$

    The rate is in closed form. When to use it: first, and as the baseline of everything else. It is often confused with
    what many introductions train, cross-entropy on grey pixels averaged over pixels, which weighs the rate hundreds of
    times too strongly.
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
