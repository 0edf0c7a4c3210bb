"""The hyperspherical VAE."""

from vaezoo.core import VAE, require_vector_latent
from vaezoo.encoders import SphericalEncoder
from vaezoo.priors import UniformSpherePrior
from vaezoo.registry import Architecture, register


@register("s-vae", changes=("encoder", "prior"), yields={"prior": "posteriors"})
def s_vae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimizes D + R with latents on a sphere: a von Mises-Fisher posterior and a uniform prior.

    $$q(z|x) \propto e^{\kappa\, \mu^\top z}, \qquad
        R = \kappa\, \mathbb{E}_q[\mu^\top z] - \log \mathbb{E}_{p}[e^{\kappa\, \mu^\top z}], \qquad \|z\| = 1$$

    The rate is in closed form. Normalizer and draws are computed by quadrature over the angle between z and μ, to ten
    digits at any concentration and dimension, where Bessel functions overflow. The paper samples by rejection and
    corrects the gradient; inverting the distribution function needs neither. The paper's code adds 1 to $\kappa$, its
    text and this do not. Densities are per surface area. Use it for directional data or a latent space without a
    center, with two to some dozens of latents, since all directions share one κ. With `vamp-vae` the prior is a
    mixture of such posteriors.

    See also: `vae` with normalized means, which still has a Gaussian rate.

    References: Davidson et al. (2018), https://arxiv.org/abs/1804.00891
    """
    size = require_vector_latent(architecture.latent, "s-vae", least=2)
    network = architecture.network().down(architecture.shape, (size + 1,), architecture.context)
    return base.replace(encoder=SphericalEncoder(network), prior=UniformSpherePrior(architecture.latent))
