"""Gaussian models of one latent whose every integral is known, with posteriors that are parameters."""

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import VAE, Objective, Part
from vaezoo.decoders import Decoder
from vaezoo.distributions.normal import DiagonalNormal
from vaezoo.likelihoods.gaussian import Gaussian
from vaezoo.priors.normal import StandardNormalPrior


class FreePosterior(Part):
    """N(loc, scale²) for each row of a batch, whatever x: row by row a parameter, so that gradients come row by row."""

    def __init__(self, rows: int, loc: float, log_scale: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.full((rows, 1), loc, dtype=dtype))
        self.log_scale = nn.Parameter(torch.full((rows, 1), log_scale, dtype=dtype))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        return DiagonalNormal(self.loc, self.log_scale)


class Slope(nn.Module):
    """z -> w z."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        return (self.weight * z).unsqueeze(-2)


def one_latent(
    objective: Objective,
    rows: int,
    *,
    loc: float = 0.0,
    log_scale: float = 0.0,
    weight: float = 1.0,
    noise: float = 1.0,
) -> VAE:
    """Returns p(z) = N(0, 1), p(x|z) = N(weight·z, noise²) with a free posterior for each of `rows` examples."""
    decoder = Decoder(Slope(weight), Gaussian((1,), scale=noise))
    prior = StandardNormalPrior((1,)).double()
    return VAE(FreePosterior(rows, loc, log_scale), decoder, prior, objective, shape=(1,), latent=(1,)).train()
