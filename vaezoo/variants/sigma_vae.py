"""The σ-VAE: Gaussian pixels whose scale is the best one."""

from __future__ import annotations

from vaezoo.core import VAE
from vaezoo.registry import Architecture, register


@register(
    "sigma-vae",
    changes="likelihood",
    year=2021,
    paper="Rybkin et al.",
    url="https://arxiv.org/abs/2006.13202",
    defaults={"likelihood": {"name": "gaussian", "scale_kind": "optimal"}},
)
def sigma_vae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimises $D + R$ like `vae`, with Gaussian pixels of one shared σ that follows the error.

    $$D = \frac{N}{2} \log(2 \pi \sigma^2) + \frac{\|x - \mu(z)\|^2}{2 \sigma^2}, \qquad
        \sigma^2 = \overline{\|x - \mu(z)\|^2} / N$$

    The rate is in closed form. The paper sets σ to the optimum of each batch, which couples its examples; here it is
    the root of a running mean, moves after the step and stands still in eval mode: figures are those of one model.
    When to use it: for real-valued data, instead of tuning a weight of the rate: $\sigma^2$ is that weight, and this is
    its best value. It is a default, not a part of its own: any variant has it with
    `likelihood={"name": "gaussian", "scale_kind": "optimal"}`. It is confused with a σ for each pixel, which the
    decoder can drive to 0.
    """
    return base
