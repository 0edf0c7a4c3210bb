"""The standard encoder and decoder: a backbone's network with a distribution on its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Inference, Model, Part
from vaezoo.core.part import network_inputs
from vaezoo.core.precision import full_precision
from vaezoo.likelihoods import Likelihood

__all__ = ["Decoder"]


class Decoder(Part):
    """$p(x|z,c)$: a network and a likelihood head.

    Args:
        network: maps z (..., *latent) and c (B, context) to (..., P, *shape).
        likelihood: turns that into a distribution over x.
    """

    likelihood: Likelihood

    def __init__(self, network: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.network = network
        self.likelihood = likelihood

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,c) with the leading dimensions of z as batch."""
        likelihood: Distribution = self.likelihood(full_precision(self.network(*network_inputs(z, c))))
        return likelihood

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Starts the network's last bias where the likelihood's mean is the data's mean."""
        self.likelihood.initialize(model, batches)
        mean = torch.stack([x.mean(0) for x, _ in batches]).mean(0)
        raw = self.likelihood.initial_raw(mean)
        set_output_bias = getattr(self.network, "set_output_bias", None)
        if raw is not None and callable(set_output_bias):
            set_output_bias(raw)

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns what the likelihood needs of a pass."""
        return self.likelihood.observe(inference)

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Moves what the likelihood learns without a gradient."""
        self.likelihood.after_step(statistics, step)
