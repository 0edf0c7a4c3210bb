"""Decoders of a network and a likelihood."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import Inference, Model, Part, full_precision, network_inputs
from vaezoo.likelihoods import Likelihood
from vaezoo.networks import Network, fill_gaps


class Decoder(Part):
    """A network and a likelihood, which together are $p(x|z,c)$.

    Args:
        network: maps z (..., *latent) and c (B, context) to (..., P, *shape).
        likelihood: maps this to a distribution over x.
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

    def last_layer(self) -> nn.Module | None:
        """Returns the last layer of the network; None without such a layer."""
        return self.network.last_layer() if isinstance(self.network, Network) else None

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Sets the network's last bias so that the mean of p(x|z) is the mean of the data."""
        self.likelihood.initialize(model, batches)
        filled = (fill_gaps(x) if self.likelihood.gaps else x for x, _ in batches)
        mean = torch.stack([x.mean(0) for x in filled]).mean(0)
        raw = self.likelihood.initial_raw(mean)
        if raw is not None and isinstance(self.network, Network):
            self.network.set_output_bias(raw)

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns the statistics of the likelihood."""
        return self.likelihood.observe(inference)

    def after_step(self, statistics: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Updates statistics that the likelihood learns without gradients."""
        self.likelihood.after_step(statistics, step)


class LabeledDecoder(Decoder):
    """A decoder p(x|z,y) of latents (z, y).

    Args:
        network: maps z (..., L) and y (..., V) as its context to (..., P, *shape).
        likelihood: maps this to a distribution over x.
        size: L.
    """

    def __init__(self, network: nn.Module, likelihood: Likelihood, size: int) -> None:
        super().__init__(network, likelihood)
        self.size = size

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,y) with the leading dimensions of z (..., L + V) as batch; `c` is not used."""
        return super().forward(z[..., : self.size], z[..., self.size :])
