"""The regularized autoencoder with a gradient penalty."""

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives.autoencoders import GradientPenaltyObjective, decoder_jacobian, half_squared_norm
from vaezoo.registry import Architecture, Weight, register


@register("rae-gp", changes=("encoder", "objective"), rate="no density", codes_follow_prior=False)
def rae_gp(base: VAE, architecture: Architecture, *, beta: Weight = 1e-2, weight: Weight = 1e-2) -> VAE:
    r"""Minimizes distortion plus penalties on codes and on the decoder's gradient; the encoder is deterministic.

    $$D + \beta\,\tfrac12 \|z\|^2 + \lambda\,\|\nabla_z \mu(z)\|^2, \qquad z = f(x), \qquad \mu(z) = \mathbb{E}[x|z]$$

    Hyperparameters:
        beta: $\beta \ge 0$, weight of the squared norm of codes.
        weight: $\lambda \ge 0$, weight of the decoder's squared slope. The paper searches both for each data set and
            uses the squared error as D: `likelihood = {name = "gaussian", scale = 0.7071}`, up to a constant.

    $\|\nabla_z \mu\|^2$ is summed over latents and pixels, and estimated without bias from one random combination of
    the pixels at each step; widely used code takes the gradient of the sum of pixels, in which they cancel. There is no
    density of z and so no bound; the reported rate is $-\log p(z)$. Use it for sharp images and a smooth latent space,
    with a density fitted to the codes afterwards.

    See also: `rae-l2`, which is cheaper; the gradient penalty of critics, which is on their slope by x.

    References: Ghosh et al. (2020), https://arxiv.org/abs/1903.12436
    """
    penalties = {"half_square": (beta, half_squared_norm), "slope": (weight, decoder_jacobian)}
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=GradientPenaltyObjective(penalties))
