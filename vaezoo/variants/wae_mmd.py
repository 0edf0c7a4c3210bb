"""The Wasserstein autoencoder with a maximum mean discrepancy."""

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives import Kernel, MaximumMeanDiscrepancy, PenalizedObjective
from vaezoo.registry import Architecture, LargeWeight, register


@register("wae-mmd", changes=("encoder", "objective"), couples_examples=True, rate="no density")
def wae_mmd(
    base: VAE,
    architecture: Architecture,
    *,
    weight: LargeWeight = 10.0,
    kernel: Kernel = "imq",
    bandwidth: Annotated[float, Meta(ge=1e-6, le=1e6)] = 1.0,
) -> VAE:
    r"""Minimizes distortion and the discrepancy of codes from the prior, with a deterministic encoder.

    $$D + \lambda\,\mathrm{MMD}^2(q(z), p(z)), \qquad
        \mathrm{MMD}^2(q, p) = \mathbb{E}_{q,q}[k(z, z')] + \mathbb{E}_{p,p}[k(z, z')] - 2\,\mathbb{E}_{q,p}[k(z, z')]$$

    Hyperparameters:
        weight: $\lambda \ge 0$, weight of the discrepancy; 10 in the paper on MNIST, where D is the squared error:
            `likelihood = {name = "gaussian", scale = 0.7071}`, up to a constant.
        kernel: "imq", $k = s/(s + d^2)$, or "rbf", $k = e^{-d^2/s}$, with $d$ the distance of z and z'.
        bandwidth: $\sigma > 0$ in $s = 2 n \sigma^2$ for n latents; by default the scale of the prior. One scale, as in
            the paper; its code sums kernels of seven.

    The batch's codes are compared with as many draws of the prior; the estimate is unbiased and may be negative. With a
    context the codes of each context are compared with the draws for it, $q(z|c)$ with $p(z|c)$. There
    is no density of z and so no bound; the reported rate is $-\log p(z)$. Use it for sharp reconstructions from codes
    that follow the prior.

    See also: `info-vae`, whose $\alpha = 1$ is this with a Gaussian encoder; `sliced-wae`, which needs no kernel.

    References: Tolstikhin et al. (2018), https://arxiv.org/abs/1711.01558
    """
    penalties = {"mmd": (weight, MaximumMeanDiscrepancy(kernel, bandwidth))}
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=PenalizedObjective(penalties))
