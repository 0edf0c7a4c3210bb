"""The Wasserstein autoencoder with a maximum mean discrepancy."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vaezoo.core import VAE
from vaezoo.encoders import PointEncoder
from vaezoo.objectives import Kernel, MeanDiscrepancy, PenalizedObjective
from vaezoo.registry import Architecture, register


@register(
    "wae-mmd",
    changes=("encoder", "objective"),
    year=2018,
    paper="Tolstikhin et al.",
    url="https://arxiv.org/abs/1711.01558",
    couples_examples=True,
    rate="no density",
)
def wae_mmd(
    base: VAE,
    architecture: Architecture,
    *,
    weight: Annotated[float, Meta(ge=0, le=1e9)] = 10.0,
    kernel: Kernel = "imq",
    bandwidth: Annotated[float, Meta(gt=0, le=1e6)] = 1.0,
) -> VAE:
    r"""Minimises $D + \lambda\,\mathrm{MMD}^2(q(z), p(z))$, with an encoder without noise.

    $$\mathrm{MMD}^2(q, p) = \mathbb{E}_{q,q}[k(z, z')] + \mathbb{E}_{p,p}[k(z, z')] - 2\,\mathbb{E}_{q,p}[k(z, z')]$$

    Hyperparameters:
        weight: $\lambda \ge 0$, of the discrepancy; 10 in the paper on MNIST, where D is the squared error: that is
            `likelihood = {name = "gaussian", scale = 0.7071}`, up to a constant.
        kernel: "imq", $k = s/(s + d^2)$, or "rbf", $k = e^{-d^2/s}$, with $d$ the distance of z and z'.
        bandwidth: $\sigma > 0$ in $s = 2 n \sigma^2$ for n latents; the prior's scale by default. One scale, as in the
            paper; its code adds up kernels of seven.

    The batch's codes are compared with as many draws of the prior, without bias: the estimate may be negative. There is
    no density of z and so no bound: what is reported as the rate is $-\log p(z)$. When to use it: for sharp
    reconstructions from codes that fill the prior. It is confused with `info-vae`, whose $\alpha = 1$ is this with a
    Gaussian encoder, and with GANs by the name of their distance.
    """
    penalties = {"mmd": (weight, MeanDiscrepancy(kernel, bandwidth))}
    return base.replace(encoder=PointEncoder(architecture.down(1)), objective=PenalizedObjective(penalties))
