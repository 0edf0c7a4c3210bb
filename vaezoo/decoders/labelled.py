"""The decoder of a model with a class label beside the latents."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.decoders.decoder import Decoder
from vaezoo.likelihoods import Likelihood

__all__ = ["LabelledDecoder"]


class LabelledDecoder(Decoder):
    """p(x|z,y) of latents z beside y; its network takes z (..., L) and y as its context (..., V)."""

    def __init__(self, network: nn.Module, likelihood: Likelihood, size: int) -> None:
        super().__init__(network, likelihood)
        self.size = size

    def forward(self, z: Tensor, c: Tensor | None = None) -> Distribution:
        """Returns p(x|z,y) with the leading dimensions of z (..., latent) as batch; y is in z, not in `c`."""
        return super().forward(z[..., : self.size], z[..., self.size :])
