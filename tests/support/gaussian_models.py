"""Gaussian models whose integrals are known in closed form."""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from vaezoo.core import VAE, Objective, Part
from vaezoo.decoders import Decoder
from vaezoo.distributions import DiagonalNormal
from vaezoo.likelihoods.gaussian import Gaussian
from vaezoo.networks import MLP
from vaezoo.objectives import WeightedObjective
from vaezoo.priors import StandardNormalPrior


class FreePosterior(Part):
    """N(loc, scale²) for each row of a batch, independent of x, with parameters and so gradients of each row."""

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


class LinearPosterior(Part):
    """The true posterior of a linear-Gaussian model, shifted by `shift` and scaled by `widen`."""

    def __init__(self, weight: Tensor, mean: Tensor, scale: float, shift: float = 0.0, widen: float = 1.0) -> None:
        super().__init__()
        precision = weight.T @ weight / scale**2 + torch.eye(weight.shape[1], dtype=weight.dtype)
        self.covariance = precision.inverse()
        self.gain, self.mean, self.shift, self.widen = self.covariance @ weight.T / scale**2, mean, shift, widen

    def forward(self, x: Tensor, c: Tensor | None = None) -> Distribution:
        loc = (x - self.mean) @ self.gain.T + self.shift
        if torch.allclose(self.covariance, self.covariance.diag().diag()):
            return DiagonalNormal(loc, (0.5 * self.covariance.diag().log() + math.log(self.widen)).expand_as(loc))
        return MultivariateNormal(loc, self.covariance * self.widen**2)


def linear_gaussian(orthogonal: bool, scale: float = 0.6, **posterior: float) -> tuple[VAE, Tensor, Tensor]:
    """Returns a linear-Gaussian VAE, data, and their exact log p(x): probabilistic PCA's (Tipping & Bishop, 1999)."""
    torch.manual_seed(2)
    weight, mean = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    weight = torch.linalg.qr(weight)[0] * torch.tensor([2.0, 0.7], dtype=torch.float64) if orthogonal else weight
    network = MLP((2,), (1, 5), 0, [], "relu").double()
    with torch.no_grad():
        network.head.weight.copy_(weight)
        network.head.bias.copy_(mean)
    decoder = Decoder(network, Gaussian((5,), scale=scale)).double()
    encoder = LinearPosterior(weight, mean, scale, **posterior)
    model = VAE(encoder, decoder, StandardNormalPrior((2,)).double(), WeightedObjective(), shape=(5,), latent=(2,))
    exact = MultivariateNormal(mean, weight @ weight.T + scale**2 * torch.eye(5, dtype=torch.float64))
    x = exact.sample((40,))
    return model, x, exact.log_prob(x)
