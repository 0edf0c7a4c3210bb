"""The InfoVAE with a maximum mean discrepancy."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.errors import ConfigError
from vaezoo.objectives import Kernel, MaximumMeanDiscrepancy, WeightedObjective
from vaezoo.registry import Architecture, LargeWeight, register


@register("info-vae", changes="objective", couples_examples=True, example={"weight": 5.0})
def info_vae(
    base: VAE,
    architecture: Architecture,
    *,
    alpha: Annotated[float, Meta(ge=-1e6, le=1)] = 0.0,
    weight: LargeWeight = 10.0,
    kernel: Kernel = "rbf",
    bandwidth: Annotated[float, Meta(ge=1e-6, le=1e6)] = 1.0,
) -> VAE:
    r"""Minimizes distortion, a weighted rate, and a discrepancy of the aggregate posterior from the prior.

    $$D + (1 - \alpha) R + (\alpha + \lambda - 1)\,\mathrm{MMD}^2(q(z), p(z)), \qquad
        \mathrm{MMD}^2(q, p) = \mathbb{E}_{q,q}[k(z, z')] + \mathbb{E}_{p,p}[k(z, z')] - 2\,\mathbb{E}_{q,p}[k(z, z')]$$

    Hyperparameters:
        alpha: $\alpha \le 1$, the reward of the information in z; at 1 the rate has no weight.
        weight: $\lambda \ge 1 - \alpha$, weight of the divergence of the aggregate posterior from the prior.
        kernel: "rbf", $k = e^{-d^2/s}$, or "imq", $k = s/(s + d^2)$, with $d$ the distance of z and z'.
        bandwidth: $\sigma > 0$ in $s = 2 n \sigma^2$ for n latents.

    The rate is in closed form. The discrepancy is the unbiased estimate (Gretton et al., 2012), which excludes pairs of
    a z with itself and may be negative; the published code includes them. With a context it is that of $q(z|c)$ and
    $p(z|c)$. Use it where `vae` ignores its latents, with $\alpha$ near 1.

    See also: `wae-mmd`, which is this with $\alpha = 1$ and a deterministic encoder, and so without a density.

    References: Zhao et al. (2017), https://arxiv.org/abs/1706.02262
    """
    if alpha + weight < 1.0:
        raise ConfigError(
            f"Got alpha = {alpha:g} and weight = {weight:g}; expected weight ≥ 1 - alpha, that the discrepancy is not "
            f"rewarded. Use weight = {1.0 - alpha:g} or more."
        )
    penalties = {"mmd": (alpha + weight - 1.0, MaximumMeanDiscrepancy(kernel, bandwidth))}
    return base.replace(objective=WeightedObjective(1.0 - alpha, penalties=penalties))
