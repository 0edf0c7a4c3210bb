"""Gaussian with full covariance as a sampler."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from vaezoo.samplers import LatentDensity, check_latents, cholesky, is_factor, shaped


class Normal(LatentDensity):
    r"""$\mathcal{N}(\mu, \Sigma)$ with the mean and the covariance of the latents.

    When to use: to see how much of a prior's misfit is due to location, scale and correlation; takes no time to fit.

    See also: the prior N(0, 1) of the model, which is not fitted.

    References: Ghosh et al., 2020, https://arxiv.org/abs/1903.12436.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent: Sequence[int]) -> None:
        super().__init__(latent)
        self.check_size(self.width**2)
        self.register_buffer("loc", torch.zeros(self.width))
        self.register_buffer("scale", torch.eye(self.width))

    def fit(self, z: Tensor, seed: int) -> None:
        """Sets mean and covariance to those of `z` (N, D)."""
        check_latents(z, 2)
        self.loc.copy_(z.mean(0))
        self.scale.copy_(cholesky(torch.cov(z.T).view(self.width, self.width)))

    def forward(self) -> Distribution:
        """Returns the Gaussian over `latent`."""
        return shaped(MultivariateNormal(self.loc, scale_tril=self.scale, validate_args=False), self.latent)

    def is_valid(self) -> bool:
        """Returns whether the scale is a Cholesky factor."""
        return is_factor(self.scale)
