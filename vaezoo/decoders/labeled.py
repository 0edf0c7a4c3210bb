"""The decoder of a model with a class label beside the latents."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.decoders.decoder import Decoder
from vaezoo.likelihoods import Likelihood


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
