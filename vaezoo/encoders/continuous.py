"""Encoders to continuous latents without a flow: Gaussian, von Mises-Fisher and deterministic ones."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import normalize, softplus

from vaezoo.core import Part, full_precision, network_inputs, require_vector_latent
from vaezoo.distributions import (
    LOG_SCALE_LIMIT,
    CholeskyNormal,
    ContinuousDelta,
    DiagonalNormal,
    VonMisesFisher,
    normal_from,
)

LARGEST_CONCENTRATION = 1e7  # above it, draws of a von Mises-Fisher distribution are equal in float32


class GaussianEncoder(Part):
    r"""A diagonal Gaussian $q(z|x,c) = \mathcal{N}(\mu(x,c), \mathrm{diag}\,\sigma^2(x,c))$.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 2, *latent): μ and log σ.
        latent: the event shape of z.
    """

    posterior_type = DiagonalNormal

    def __init__(self, network: nn.Module, latent: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.latent = tuple(latent)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        return normal_from(self.network(*network_inputs(x, c)), len(self.latent))


class CholeskyEncoder(Part):
    r"""A Gaussian $q(z|x,c) = \mathcal{N}(\mu, L L^\top)$ with a lower-triangular $L$.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 2 D + D (D - 1) / 2): μ, the logarithm of L's diagonal,
            and √D times the entries below it.
        latent: the event shape of z, (D,).
    """

    posterior_type = CholeskyNormal

    def __init__(self, network: nn.Module, latent: Sequence[int]) -> None:
        super().__init__()
        self.network, self.size = network, require_vector_latent(latent, "full-covariance-vae")

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        raw = full_precision(self.network(*network_inputs(x, c)))
        rows, columns = torch.tril_indices(self.size, self.size, -1, device=raw.device)
        loc, log_diagonal, entries = raw.split([self.size, self.size, len(rows)], -1)
        # Divided by √D, so that the rate of a new network does not grow with the number of entries.
        lower = raw.new_zeros(x.shape[0], self.size**2).index_copy(
            1, rows * self.size + columns, entries / self.size**0.5
        )
        return CholeskyNormal(
            loc, log_diagonal.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT), lower.view(-1, self.size, self.size)
        )


class SphericalEncoder(Part):
    """A von Mises-Fisher distribution q(z|x,c) = vMF(μ, κ).

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, D + 1): μ before normalization, and κ before the softplus.
    """

    posterior_type = VonMisesFisher

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        raw = full_precision(self.network(*network_inputs(x, c)))
        return VonMisesFisher(normalize(raw[:, :-1], dim=-1), softplus(raw[:, -1]).clamp(max=LARGEST_CONCENTRATION))


class PointEncoder(Part):
    """A deterministic encoder, $z = f(x,c)$.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 1, *latent).
    """

    posterior_type = ContinuousDelta
    knows_density = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the point of each example."""
        return ContinuousDelta(full_precision(self.network(*network_inputs(x, c))).squeeze(1))
