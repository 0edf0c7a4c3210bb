"""The combination importance-weighted autoencoder."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.objectives.importance import CombinedObjective
from vaezoo.registry import Architecture, Fraction, register


@register("ciwae", changes="objective", example={"samples": 4})
def ciwae(
    base: VAE,
    architecture: Architecture,
    *,
    samples: Annotated[int, Meta(ge=1, le=100_000)] = 64,
    beta: Fraction = 0.05,
) -> VAE:
    r"""Maximizes a mixture of the ELBO and of the tighter importance-weighted bound.

    $$\beta\,\mathcal{L}_1 + (1 - \beta)\,\mathcal{L}_K, \qquad
        \mathcal{L}_1 = \frac1K \sum_{k=1}^K \log w_k, \quad \mathcal{L}_K = \log \frac1K \sum_{k=1}^K w_k, \quad
        w_k = \frac{p(x|z_k)\,p(z_k)}{q(z_k|x)}$$

    Hyperparameters:
        samples: $K \ge 1$, 64 in the paper.
        beta: $\beta \in [0, 1]$; 0 is `iwae`, 1 is `vae` with a sampled rate and K draws.

    The reported rate is in closed form; the bound, $\mathcal{L}_K$ without a weight, is sampled. Use it where the
    encoder of `iwae` learns badly; $\beta$ can be chosen without another number of draws.

    See also: `miwae` and `piwae`, other remedies for the same problem; `beta-vae`, whose weight is on the rate.

    References: Rainforth et al. (2018), https://arxiv.org/abs/1802.05383
    """
    return base.replace(objective=CombinedObjective(samples, beta))
