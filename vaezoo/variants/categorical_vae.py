"""The VAE with categorical latents."""

from vaezoo.core import VAE
from vaezoo.encoders import CategoricalEncoder
from vaezoo.errors import ShapeError
from vaezoo.priors import UniformCategoriesPrior
from vaezoo.registry import Architecture, Fraction, Temperature, register


@register(
    "categorical-vae",
    changes=("encoder", "prior"),
    defaults={"latent": (20, 10)},
    example={"latent": (16, 4), "cooling": 0.01},
)
def categorical_vae(
    base: VAE,
    architecture: Architecture,
    *,
    temperature: Temperature = 1.0,
    final_temperature: Temperature = 0.5,
    cooling: Fraction = 3e-5,
) -> VAE:
    r"""Minimizes D + R with categorical latents, relaxed in training (Gumbel-softmax).

    $$z = \mathrm{softmax}\big((\log \pi(x) + g) / \tau\big), \qquad R = \sum_n \mathrm{KL}(\pi_n(x)\,\|\,1/V)$$

    Hyperparameters:
        temperature: $\tau_0 > 0$, at the start.
        final_temperature: $\tau_{end} > 0$, the minimum; 0.5 in the paper.
        cooling: $r \ge 0$ per step in $\tau = \max(\tau_{end}, \tau_0 e^{-rt})$; 1e-5 to 1e-4 in the paper.

    The latent shape is (N, V): N variables of V categories. The rate is that of the categories, in closed form. In
    train mode z is relaxed, and bound and distortion are estimates with a bias that decreases with $\tau$; in eval mode
    z is exactly one-hot and the bound is valid. `reconstruct` decodes the most probable categories. Use it for latents
    that are choices.

    See also: `vq-vae`, whose encoder is deterministic; `gumbel-vq-vae`, whose categories are vectors of a codebook.

    References: Jang et al. (2017), https://arxiv.org/abs/1611.01144
    """
    latent = architecture.latent
    if latent[-1] < 2:
        raise ShapeError(
            f"Got latent = {list(latent)}; categorical-vae expected (N, V) with V of 2 or more, such as (20, 10)."
        )
    network = architecture.network().down(architecture.shape, (1, *latent), architecture.context)
    encoder = CategoricalEncoder(network, latent, temperature, final_temperature, cooling)
    return base.replace(encoder=encoder, prior=UniformCategoriesPrior(latent))
