"""The encoder whose posterior is a Gaussian transformed by Hamiltonian dynamics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Model, Part
from vaezoo.core.part import network_inputs
from vaezoo.core.precision import full_precision
from vaezoo.distributions import HamiltonianPosterior

LARGEST_STEP = 0.5  # ξ, the upper bound of the step sizes


class HamiltonianEncoder(Part):
    """The diagonal Gaussian of another encoder, transformed by tempered leapfrog steps towards p(z|x).

    Args:
        base: the encoder of the diagonal Gaussian.
        latent: the event shape of z.
        leapfrogs: number of leapfrog steps.
        step: initial size of the steps, under `LARGEST_STEP`; one for each latent is learned.
        beta: initial inverse temperature β₀, between 0 and 1, which is learned; it rises to 1 over the steps.
    """

    knows_density = False

    def __init__(self, base: nn.Module, latent: Sequence[int], leapfrogs: int, step: float, beta: float) -> None:
        super().__init__()
        self.base, self.leapfrogs = base, leapfrogs
        self.raw_step = nn.Parameter(torch.full(tuple(latent), math.log(step / (LARGEST_STEP - step))))
        self.raw_beta = nn.Parameter(torch.tensor(math.log(beta / (1.0 - beta))))
        self._others: tuple[nn.Module, ...] = ()  # in a tuple, so that they are not registered

    def bind(self, model: Model) -> None:
        """Stores references to the decoder and the prior, without registering them."""
        self._others = (model.decoder, model.prior)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        decoder, prior = self._others
        p_z = cast(Distribution, prior(c))

        def log_joint(z: Tensor) -> Tensor:
            return cast(Distribution, decoder(z, c)).log_prob(x) + p_z.log_prob(z)

        step = LARGEST_STEP * full_precision(self.raw_step).sigmoid()
        root = full_precision(self.raw_beta).sigmoid().rsqrt()
        times = torch.arange(self.leapfrogs + 1, dtype=root.dtype, device=x.device) / self.leapfrogs
        roots = root + (1.0 - root) * times.square()  # 1/√β_k, from 1/√β₀ down to 1
        return HamiltonianPosterior(self.base(*network_inputs(x, c)), log_joint, step, roots[:-1] / roots[1:])
