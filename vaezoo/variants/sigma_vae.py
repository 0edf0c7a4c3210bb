"""The σ-VAE: Gaussian pixels with the optimal shared scale."""

from vaezoo.core import VAE
from vaezoo.registry import Architecture, register


@register("sigma-vae", changes="likelihood", defaults={"likelihood": {"name": "gaussian", "scale_kind": "optimal"}})
def sigma_vae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimizes D + R like `vae`, with Gaussian pixels of one shared σ that follows the error.

    $$D = \frac{N}{2} \log(2 \pi \sigma^2) + \frac{\|x - \mu(z)\|^2}{2 \sigma^2}, \qquad
        \sigma^2 = \overline{\|x - \mu(z)\|^2} / N$$

    The name fixes the likelihood, `{"name": "gaussian", "scale_kind": "optimal"}`, which any other variant accepts as
    an argument. The rate is in closed form. The paper sets σ to the optimum of each batch, which couples its examples;
    here σ² is a running mean, updated after each step and constant in eval mode; with `iwae` and its
    relatives the error of each draw has its importance weight. Use it for real-valued data, instead
    of tuning a weight of the rate: $\sigma^2$ is that weight, and this is its optimum.

    See also: `beta-vae`, whose weight is fixed; `scale_kind = "learned"` with a σ for each pixel, which the decoder can
    drive to 0.

    References: Rybkin et al. (2021), https://arxiv.org/abs/2006.13202
    """
    return base
