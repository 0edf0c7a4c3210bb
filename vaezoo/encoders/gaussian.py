"""The encoder of a Gaussian posterior with a diagonal covariance matrix."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.core.part import network_inputs
from vaezoo.distributions.normal import normal_from


class GaussianEncoder(Part):
    r"""A diagonal Gaussian $q(z|x,c) = \mathcal{N}(\mu(x,c), \mathrm{diag}\,\sigma^2(x,c))$.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 2, *latent): μ and log σ.
        latent: the event shape of z.
    """

    def __init__(self, network: nn.Module, latent: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.latent = tuple(latent)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        return normal_from(self.network(*network_inputs(x, c)), len(self.latent))
