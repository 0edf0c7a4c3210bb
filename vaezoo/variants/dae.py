"""The denoising autoencoder."""

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives.autoencoders import Corruption, DenoisingObjective
from vaezoo.registry import Architecture, Fraction, register


@register("dae", changes=("encoder", "objective"), rate="no density", codes_follow_prior=False)
def dae(base: VAE, architecture: Architecture, *, corruption: Corruption = "masking", level: Fraction = 0.25) -> VAE:
    r"""Minimizes the distortion of x given the code of a corrupted copy of x.

    $$D = -\log p(x\,|\,f(\tilde x)), \qquad \tilde x = x \odot m, \; m_i \sim \mathrm{Bernoulli}(1 - \nu)
        \quad \text{or} \quad \tilde x = x + \nu\,\epsilon$$

    Hyperparameters:
        corruption: "masking" sets values to 0, "gaussian" adds noise.
        level: $\nu \in [0, 1]$, the fraction of values set to 0, or the standard deviation of the noise; 0 is `ae`.

    In eval mode x is not corrupted. There is no density of z and so no bound; the reported rate is $-\log p(z)$, which
    is not minimized. Use it for codes that do not depend on single pixels, also with more latents than pixels.

    See also: `ae`, which is this without corruption; diffusion models, which remove noise in many steps and have no
    codes; the denoising criterion for VAEs, which has a density.

    References: Vincent et al. (2008), https://doi.org/10.1145/1390156.1390294
    """
    objective = DenoisingObjective(corruption, level)
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=objective)
