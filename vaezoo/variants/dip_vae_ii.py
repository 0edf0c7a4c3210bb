"""DIP-VAE-II: an aggregate posterior with the covariance of the prior."""

from vaezoo.core import VAE
from vaezoo.distributions import DiagonalNormal
from vaezoo.objectives import WeightedObjective
from vaezoo.objectives.penalties.aggregate import covariance_penalties
from vaezoo.registry import Architecture, Weight, register


@register("dip-vae-ii", changes="objective", couples_examples=True, example={"lambda_od": 1.0, "lambda_d": 1.0})
def dip_vae_ii(base: VAE, architecture: Architecture, *, lambda_od: Weight = 10.0, lambda_d: Weight = 10.0) -> VAE:
    r"""Minimizes D + R plus the deviation of the covariance of the draws from the identity.

    $$D + R + \lambda_{od} \sum_{i \ne j} C_{ij}^2 + \lambda_d \sum_i (C_{ii} - 1)^2, \qquad
        C = \mathrm{Cov}_{q(z)}[z] = \mathrm{Cov}_{p(x)}[\mu(x)] + \mathbb{E}_{p(x)}[\mathrm{diag}\,\sigma^2(x)]$$

    Hyperparameters:
        lambda_od: $\lambda_{od} \ge 0$, weight of the covariances.
        lambda_d: $\lambda_d \ge 0$, weight of the deviation of the variances from 1.

    The rate is in closed form. $C$ is estimated from the batch, divided by B, in closed form given the posteriors; use
    batches of 100 or more. Use it for an aggregate posterior with the covariance of the prior, where latents may be
    inactive.

    See also: `dip-vae-i`, which uses the covariance of the means.

    References: Kumar et al. (2018), https://arxiv.org/abs/1711.00848
    """
    penalties = covariance_penalties(lambda_od, lambda_d, draws=True)
    return base.replace(objective=WeightedObjective(penalties=penalties, posterior_type=DiagonalNormal))
