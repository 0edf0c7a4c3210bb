"""The VAE whose posterior has a full covariance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.correlated import CholeskyNormal
from vaezoo.distributions import LOG_SCALE_LIMIT, full_precision
from vaezoo.elbo import Part
from vaezoo.model import VAE
from vaezoo.parts import given, width_of
from vaezoo.registry import Architecture, register


class CholeskyEncoder(Part):
    r"""$q(z|x,c) = \mathcal{N}(\mu, L L^\top)$, from one network for μ, log L's diagonal and what is under it.

    Args:
        network: maps x (B, *shape) and c (B, context) to (B, 2 D + D (D - 1) / 2).
        latent: the event shape of z, (D,).
    """

    def __init__(self, network: nn.Module, latent: Sequence[int]) -> None:
        super().__init__()
        self.network, self.size = network, width_of(latent, "full-covariance-vae")

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        raw = full_precision(self.network(*given(x, c)))
        rows, columns = torch.tril_indices(self.size, self.size, -1, device=raw.device)
        loc, log_diagonal, entries = raw.split([self.size, self.size, len(rows)], -1)
        # Over √D, so that the numbers that a fresh network gives make no larger a rate the more latents there are.
        lower = raw.new_zeros(len(x), self.size**2).index_copy(1, rows * self.size + columns, entries / self.size**0.5)
        return CholeskyNormal(
            loc,
            log_diagonal.clamp(-LOG_SCALE_LIMIT, LOG_SCALE_LIMIT),
            lower.view(-1, self.size, self.size),
        )


@register(
    "full-covariance-vae",
    changes="encoder",
    year=2019,
    paper="Kingma & Welling",
    url="https://arxiv.org/abs/1906.02691",
)
def full_covariance_vae(base: VAE, architecture: Architecture) -> VAE:
    r"""Minimises $D + R$ with a posterior whose latents may be correlated given x.

    $$q(z|x) = \mathcal{N}(\mu, L L^\top), \qquad
        R = \tfrac12 \Big(\sum_{ij} L_{ij}^2 + \|\mu\|^2 - n\Big) - \sum_j \log L_{jj}$$

    L is lower triangular with a positive diagonal; its n(n + 1)/2 entries come from the encoder (section 2.5.1). The
    rate is in closed form, also with the learnt prior of `cvae`. When to use it: where few latents explain each
    other away, so that a diagonal posterior leaves a gap, and n is some dozens at most: the encoder's last layer and
    each draw cost n². For many latents take `iaf-vae`. It is confused with a prior of full covariance, which changes
    nothing: the decoder can undo it.
    """
    latent = architecture.latent
    size = width_of(latent, "full-covariance-vae")
    outputs = (2 * size + size * (size - 1) // 2,)
    network = architecture.network().down(architecture.shape, outputs, architecture.context)
    return base.replace(encoder=CholeskyEncoder(network, latent))
