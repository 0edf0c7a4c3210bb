"""DIP-VAE-I: posterior means with the covariance of the prior."""

from vaezoo.core import VAE
from vaezoo.distributions import DiagonalNormal
from vaezoo.objectives import WeightedObjective
from vaezoo.objectives.penalties.aggregate import covariance_penalties
from vaezoo.registry import Architecture, Weight, register


@register("dip-vae-i", changes="objective", couples_examples=True)
def dip_vae_i(base: VAE, architecture: Architecture, *, lambda_od: Weight = 10.0, lambda_d: Weight = 100.0) -> VAE:
    r"""Minimizes D + R plus the deviation of the covariance of the posterior means from the identity.

    $$D + R + \lambda_{od} \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2, \qquad
        C = \mathrm{Cov}_{p(x)}[\mu(x)]$$

    Hyperparameters:
        lambda_od: $\lambda_{od} \ge 0$, weight of the covariances of the means.
        lambda_d: $\lambda_d \ge 0$, weight of the deviation of the variances of the means from 1.

    The rate is in closed form. $C$ is estimated from the batch, divided by B; use batches of 100 or more. The means
    must reach variance 1, which excludes inactive latents. Use it for uncorrelated means, where codes are the means.

    See also: `dip-vae-ii`, which uses the covariance of the draws; `beta-tc-vae`, whose total correlation also measures
    dependence beyond correlations.

    References: Kumar et al. (2018), https://arxiv.org/abs/1711.00848
    """
    penalties = covariance_penalties(lambda_od, lambda_d, draws=False)
    return base.replace(objective=WeightedObjective(penalties=penalties, posterior_type=DiagonalNormal))
