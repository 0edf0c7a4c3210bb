"""The encoder whose posterior is refined by Hamiltonian dynamics."""

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

LARGEST_STEP = 0.5  # ξ, which every step size stays below


class HamiltonianEncoder(Part):
    """Another encoder's normal, moved by Hamiltonian dynamics; refers to decoder and prior, which it does not own."""

    knows_density = False

    def __init__(self, base: nn.Module, latent: Sequence[int], leapfrogs: int, step: float, beta: float) -> None:
        super().__init__()
        self.base, self.leapfrogs = base, leapfrogs
        self.raw_step = nn.Parameter(torch.full(tuple(latent), math.log(step / (LARGEST_STEP - step))))
        self.raw_beta = nn.Parameter(torch.tensor(math.log(beta / (1.0 - beta))))
        self._others: tuple[nn.Module, ...] = ()  # in a tuple, so that they are not registered

    def bind(self, model: Model) -> None:
        """Remembers decoder and prior, without registering them."""
        self._others = (model.decoder, model.prior)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns the posterior of each example."""
        decoder, prior = self._others
        before = cast(Distribution, prior(c))

        def log_joint(z: Tensor) -> Tensor:
            return cast(Distribution, decoder(z, c)).log_prob(x) + before.log_prob(z)

        step = LARGEST_STEP * full_precision(self.raw_step).sigmoid()
        first = full_precision(self.raw_beta).sigmoid().rsqrt()
        times = torch.arange(self.leapfrogs + 1, dtype=first.dtype, device=x.device) / self.leapfrogs
        warmth = first + (1.0 - first) * times.square()  # 1/√β_k, from 1/√β₀ down to 1
        return HamiltonianPosterior(self.base(*network_inputs(x, c)), log_joint, step, warmth[:-1] / warmth[1:])
