"""Ex-post samplers: densities fitted to the latents of a trained model, which replace the prior for sampling.

A decoder is trained on samples of the aggregated posterior, the mean over x of q(z|x), which the prior only
approximates. A density fitted to such samples gives better images in minutes (Ghosh et al., 2020,
https://arxiv.org/abs/1903.12436), and makes any autoencoder generative. Model and bound are unchanged. Each sampler is
one file.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, TransformedDistribution
from torch.distributions.transforms import ReshapeTransform

from vaezoo.core import VAE, seeded, whole_number
from vaezoo.errors import ConfigError, DataError, ShapeError

__all__ = ["LatentDensity", "Sampler", "check_latents", "cholesky", "is_factor", "refuse_conditional", "shaped"]

LARGEST = 2**26  # numbers of a density; a larger config is a mistake or an attack


class LatentDensity(nn.Module):
    """A distribution over latents that is fitted once.

    The options of a subclass are keyword-only parameters of `__init__`. `fit` sets parameters and buffers, whose shapes
    follow from `latent` and the options.

    Args:
        latent: event shape of z.
    """

    def __init__(self, latent: Sequence[int]) -> None:
        super().__init__()
        self.latent = tuple(latent)
        self.width = math.prod(self.latent)

    def fit(self, z: Tensor, seed: int) -> None:
        """Fits the density to flattened latents `z` (N, D), float64; `seed` determines all random numbers.

        Raises:
            DataError: there are too few latents, or they are not finite.
        """
        raise NotImplementedError

    def forward(self) -> Distribution:
        """Returns the fitted distribution, with event shape `latent` and no batch."""
        raise NotImplementedError

    def is_valid(self) -> bool:
        """Returns whether the tensors, all finite, define a distribution; called after loading."""
        return True

    def check_size(self, numbers: int) -> None:
        """Raises ConfigError if a density of `numbers` numbers is too large."""
        if numbers > LARGEST:
            raise ConfigError(
                f"Got latents of shape {self.latent}, whose sampler would have {numbers:,} numbers; expected at most "
                f"{LARGEST:,}. Full covariances are for small latents: use fewer components or another sampler."
            )


def shaped(flat: Distribution, latent: Sequence[int]) -> Distribution:
    """Returns a distribution over (D,) as one over `latent`, with D elements."""
    width = flat.event_shape[0]
    if tuple(latent) == (width,):
        return flat
    return TransformedDistribution(
        flat, [ReshapeTransform(torch.Size((width,)), torch.Size(latent))], validate_args=False
    )


def cholesky(covariance: Tensor) -> Tensor:
    """Returns the Cholesky factor (..., D, D) of covariances (..., D, D), float64.

    A millionth of the mean variance is added to the diagonal, since latents without noise may be degenerate.
    """
    width = covariance.shape[-1]
    mean = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-12)
    ridge = 1e-6 * mean[..., None, None] * torch.eye(width, dtype=covariance.dtype)
    factor: Tensor = torch.linalg.cholesky(covariance + ridge)
    return factor


def is_factor(scale: Tensor) -> bool:
    """Returns whether matrices (..., D, D) are Cholesky factors: lower triangular with a positive diagonal."""
    diagonal = scale.diagonal(dim1=-2, dim2=-1)
    return bool((diagonal > 0).all()) and torch.equal(scale, scale.tril())


class Sampler:
    """A model with a density that was fitted to its latents.

    Args:
        model: a model of continuous latents without a context.
        density: density fitted to latents of this model.
        name: registered name of the sampler.
        options: options of the density.
        fitted_on: description of the latents, as plain values.

    Raises:
        ConfigError: the model is conditional.
        ShapeError: the density has another latent shape than the model.
    """

    def __init__(
        self, model: VAE, density: LatentDensity, *, name: str, options: dict[str, object], fitted_on: dict[str, object]
    ) -> None:
        refuse_conditional(model)
        if model.latent is not None and density.latent != model.latent:
            raise ShapeError(f"Got a sampler of latents {density.latent}; expected {model.latent}, as the model.")
        self.model, self.density = model, density
        self.name, self.options, self.fitted_on = name, options, fitted_on

    def __repr__(self) -> str:
        """Returns name, options, latents and data in one line."""
        options = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        data = f", fitted on {self.fitted_on['data']}" if "data" in self.fitted_on else ""
        return f"Sampler {self.name}({options}) of latents {self.density.latent}{data}"

    @torch.no_grad()
    def latents(self, n: int = 1, seed: int | None = None) -> Tensor:
        """Returns `n` samples of z, (n, *latent), on the model's device; `seed=None` uses the global generator."""
        n = whole_number(n, "n", 1, error=ShapeError)
        with seeded(seed):
            drawn = cast(Distribution, self.density()).sample((n,))
        return drawn.to(next(self.model.parameters()).device)

    @torch.no_grad()
    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """Returns the means of p(x|z) for `n` samples of z, (n, *shape), as `model.sample` does for the prior.

        `seed=None` uses the global generator; a number leaves its state unchanged.
        """
        return self.model.decode(self.latents(n, seed)).mean


def refuse_conditional(model: VAE) -> None:
    """Raises ConfigError for a model with a context."""
    if model.context:
        raise ConfigError(
            f"Got a conditional model (context of width {model.context}); expected one without a context, since "
            "a sampler mixes the latents of all contexts. Use model.sample(n, c)."
        )


def check_latents(z: Tensor, least: int) -> None:
    """Raises DataError unless there are at least `least` latents (N, D), all finite."""
    if len(z) < least:
        raise DataError(f"Got {len(z)} latents; expected at least {least} to fit this sampler. Use more examples.")
    if not bool(torch.isfinite(z).all()):
        raise DataError("Got NaN or infinite latents; expected finite ones. Inspect the model and its data.")
