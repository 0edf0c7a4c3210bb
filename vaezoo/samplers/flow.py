"""Flow of affine couplings as a sampler."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import seeded
from vaezoo.distributions import FlowDistribution
from vaezoo.errors import DataError
from vaezoo.networks import Couplings
from vaezoo.networks.perceptron import Width
from vaezoo.samplers import LatentDensity, check_latents, cholesky, is_factor, shaped

BATCH, RATE, LARGEST_NORM = 256, 1e-3, 10.0


class Whitened(Couplings):
    r"""Couplings after whitening, $z \mapsto L^{-1}(z - \mu)$.

    Args:
        size: D.
        transforms: number of couplings.
        hidden: widths of the hidden layers of each coupling.
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, size: int, transforms: int, hidden: Sequence[int]) -> None:
        super().__init__(size, 0, transforms, hidden)
        self.register_buffer("loc", torch.zeros(size))
        self.register_buffer("scale", torch.eye(size))

    def forward(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns u (..., D) and log |det ∂u/∂z| (...)."""
        white = torch.linalg.solve_triangular(self.scale, (z - self.loc).unsqueeze(-1), upper=False).squeeze(-1)
        u, log_det = super().forward(white, c)
        return u, log_det - self.scale.diagonal().log().sum()

    def inverse(self, u: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns z (..., D) and log |det ∂u/∂z| (...)."""
        white, log_det = super().inverse(u, c)
        return white @ self.scale.T + self.loc, log_det - self.scale.diagonal().log().sum()


class Flow(LatentDensity):
    r"""$\log p(z) = \log \mathcal{N}(f(z); 0, 1) + \log |\det \partial f / \partial z|$ with a RealNVP f.

    The couplings are those of `flow-prior-vae`. The flow is initialized as the sampler `normal` and fitted by Adam with
    a cosine schedule.

    Args:
        latent: event shape of z.
        transforms: number of affine couplings.
        hidden: widths of the hidden layers of each coupling's network.
        steps: number of steps, on batches of 256.

    When to use: if a mixture is too coarse; fitting takes longer.

    See also: `flow-prior-vae`, whose flow is trained with the model and is part of its bound.

    References: Dinh et al., 2017, https://arxiv.org/abs/1605.08803.
    """

    def __init__(
        self,
        latent: Sequence[int],
        *,
        transforms: Annotated[int, Meta(ge=1, le=100)] = 8,
        hidden: Annotated[tuple[Width, ...], Meta(max_length=16)] = (128, 128),
        steps: Annotated[int, Meta(ge=1, le=10**7)] = 3000,
    ) -> None:
        super().__init__(latent)
        self.check_size(self.width**2)
        self.steps = steps
        self.flow = Whitened(self.width, transforms, hidden)

    def fit(self, z: Tensor, seed: int) -> None:
        """Fits the flow to `z` (N, D)."""
        check_latents(z, 2)
        self.flow.loc.copy_(z.mean(0))
        self.flow.scale.copy_(cholesky(torch.cov(z.T).view(self.width, self.width)))
        rows, weights = z.to(self.flow.loc.dtype), list(self.flow.parameters())
        with seeded(seed), torch.enable_grad():
            optimizer = torch.optim.Adam(weights, lr=RATE)
            for step in range(self.steps):
                optimizer.param_groups[0]["lr"] = 0.5 * RATE * (1.0 + math.cos(math.pi * step / self.steps))
                loss = -self._flat().log_prob(rows[torch.randint(len(rows), (BATCH,))]).mean()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, LARGEST_NORM)
                optimizer.step()
        if not all(bool(torch.isfinite(weight).all()) for weight in weights):
            raise DataError("Got NaN or infinite weights of the flow; expected finite ones. Use fewer transforms.")

    def forward(self) -> Distribution:
        """Returns the flow's distribution over `latent`."""
        return shaped(self._flat(), self.latent)

    def is_valid(self) -> bool:
        """Returns whether the scale is a Cholesky factor."""
        return is_factor(self.flow.scale)

    def _flat(self) -> Distribution:
        return FlowDistribution(self.flow, torch.zeros_like(self.flow.loc))
