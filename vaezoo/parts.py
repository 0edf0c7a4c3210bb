"""The standard encoder and decoder: a backbone's network with a distribution on its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.distributions import full_precision, normal_from
from vaezoo.elbo import Inference, Model, Part
from vaezoo.errors import ShapeError
from vaezoo.likelihoods import Likelihood

__all__ = ["Decoder", "GaussianEncoder"]


def given(x: Tensor, c: Tensor | None) -> tuple[Tensor, ...]:
    """Returns what a network is called with: an unconditional one need not know of contexts."""
    return (x,) if c is None else (x, c)


def width_of(latent: Sequence[int], name: str, least: int = 1) -> int:
    """Returns the size of a latent of one axis, which the variant `name` needs; raises ShapeError for another."""
    if len(latent) != 1 or latent[0] < least:
        raise ShapeError(
            f"Got latent = {list(latent)}; {name} expected one axis with at least {least} latents, such as latent = "
            f"{max(least, 16)}."
        )
    return latent[0]


class GaussianEncoder(Part):
    r"""$q(z|x,c) = \mathcal{N}(\mu(x,c), \mathrm{diag}\,\sigma^2(x,c))$, from one network for both.

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
        return normal_from(self.network(*given(x, c)), len(self.latent))


class Decoder(Part):
    """$p(x|z,c)$: a network and a likelihood head.

    Args:
        network: maps z (..., *latent) and c (B, context) to (..., P, *shape).
        likelihood: turns that into a distribution over x.
    """

    def __init__(self, network: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.network = network
        self.likelihood = likelihood

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,c) with the leading dimensions of z as batch."""
        likelihood: Distribution = self.likelihood(full_precision(self.network(*given(z, c))))
        return likelihood

    def initialize(self, model: Model, batches: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        """Starts the network's last bias where the likelihood's mean is the data's mean."""
        self.likelihood.initialize(model, batches)
        mean = torch.stack([x.mean(0) for x, _ in batches]).mean(0)
        raw = self.likelihood.initial_raw(mean)
        start_at = getattr(self.network, "start_at", None)
        if raw is not None and callable(start_at):
            start_at(raw)

    def observe(self, inference: Inference) -> dict[str, Tensor]:
        """Returns what the likelihood needs of a pass."""
        return self.likelihood.observe(inference)

    def after_step(self, seen: Sequence[Mapping[str, Tensor]], step: Tensor) -> None:
        """Moves what the likelihood learns without a gradient."""
        self.likelihood.after_step(seen, step)
