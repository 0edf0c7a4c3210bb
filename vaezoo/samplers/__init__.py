"""Ex-post samplers: distributions that are fitted on a trained model's latents, to draw from in the prior's place.

What a decoder has seen in training are draws from the aggregated posterior, the mean over x of q(z|x), which the prior
is only meant to match. A distribution fitted on such draws makes better samples in minutes (Ghosh et al., 2020,
https://arxiv.org/abs/1903.12436), and makes any autoencoder generative. The model itself, and its bound, stay as they
are. One file each, found by its name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, TransformedDistribution
from torch.distributions.transforms import ReshapeTransform

from vaezoo.core import VAE, seeded
from vaezoo.errors import ConfigError, DataError, ShapeError

__all__ = ["LatentDensity", "Sampler", "check_latents", "cholesky", "is_factor", "refuse_conditional", "shaped"]

LARGEST = 2**26  # numbers of a density: beyond it a config is a mistake or an attack


class LatentDensity(nn.Module):
    """A distribution over latents that is fitted once; see the module's own words.

    A subclass says in keyword-only parameters of `__init__` what its options are; everything that `fit` learns is a
    parameter or a buffer whose shape follows from `latent` and the options.

    Args:
        latent: the event shape of z.
    """

    def __init__(self, latent: Sequence[int]) -> None:
        super().__init__()
        self.latent = tuple(latent)
        self.width = math.prod(self.latent)

    def fit(self, z: Tensor, seed: int) -> None:
        """Fits the density to latents `z` (N, D), float64, finite, flattened; `seed` is of whatever is drawn.

        Raises:
            DataError: there are too few latents.
        """
        raise NotImplementedError

    def forward(self) -> Distribution:
        """Returns the fitted distribution, with event shape `latent` and no batch."""
        raise NotImplementedError

    def is_valid(self) -> bool:
        """Says whether the numbers, all finite, are those of a distribution; asked when they come from a file."""
        return True

    def check_size(self, numbers: int) -> None:
        """Raises ConfigError unless a density of so many numbers can be held."""
        if numbers > LARGEST:
            raise ConfigError(
                f"Got latents of shape {self.latent}, whose sampler would hold {numbers:,} numbers; expected at most "
                f"{LARGEST:,}. Full covariances are for small latents: take fewer components or another sampler."
            )


def shaped(flat: Distribution, latent: Sequence[int]) -> Distribution:
    """Returns a distribution over (D,) as one over `latent`, of as many elements."""
    width = flat.event_shape[0]
    if tuple(latent) == (width,):
        return flat
    return TransformedDistribution(
        flat, [ReshapeTransform(torch.Size((width,)), torch.Size(latent))], validate_args=False
    )


def cholesky(covariance: Tensor) -> Tensor:
    """Returns the Cholesky factor (..., D, D) of covariances (..., D, D), float64.

    A millionth of the mean variance is added on the diagonal: latents without noise may lie on a line.
    """
    width = covariance.shape[-1]
    mean = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-12)
    ridge = 1e-6 * mean[..., None, None] * torch.eye(width, dtype=covariance.dtype)
    factor: Tensor = torch.linalg.cholesky(covariance + ridge)
    return factor


def is_factor(scale: Tensor) -> bool:
    """Says whether matrices (..., D, D) are Cholesky factors: lower triangles with a positive diagonal."""
    diagonal = scale.diagonal(dim1=-2, dim2=-1)
    return bool((diagonal > 0).all()) and torch.equal(scale, scale.tril())


class Sampler:
    """A model together with a distribution that was fitted on its latents.

    Args:
        model: of continuous latents and without a context.
        density: fitted on latents of this model.
        name: of the kind of sampler, as it is registered.
        options: of the density, as they are in its config.
        fitted_on: what the latents were, in plain values.

    Raises:
        ConfigError: the model is conditional.
        ShapeError: the density is of other latents.
    """

    def __init__(
        self, model: VAE, density: LatentDensity, *, name: str, options: dict[str, object], fitted_on: dict[str, object]
    ) -> None:
        refuse_conditional(model)
        if model.latent is not None and density.latent != model.latent:
            raise ShapeError(f"Got a sampler of latents {density.latent}; expected those of the model, {model.latent}.")
        self.model, self.density = model, density
        self.name, self.options, self.fitted_on = name, options, fitted_on

    @torch.no_grad()
    def latents(self, n: int = 1, seed: int | None = None) -> Tensor:
        """Returns `n` draws of z, (n, *latent), on the model's device; `seed=None` draws from the caller's state."""
        if n < 1:
            raise ShapeError(f"Got n = {n}; expected at least 1 sample.")
        with seeded(seed, torch.device("cpu")):
            drawn = cast(Distribution, self.density()).sample((n,))
        return drawn.to(next(self.model.parameters()).device)

    @torch.no_grad()
    def sample(self, n: int = 1, seed: int | None = None) -> Tensor:
        """Returns the means of p(x|z) for `n` draws of z, (n, *shape): what `model.sample` gives, by other latents.

        `seed=None` draws from the caller's random state; a number leaves that state alone.
        """
        return self.model.decode(self.latents(n, seed)).mean


def refuse_conditional(model: VAE) -> None:
    """Raises ConfigError for a model with a context."""
    if model.context:
        raise ConfigError(
            f"Got a conditional model (context of width {model.context}); expected one without a context: a sampler's "
            "latents would be those of all contexts at once. Use model.sample(n, c)."
        )


def check_latents(z: Tensor, least: int) -> None:
    """Raises DataError unless there are at least `least` latents (N, D), all finite."""
    if len(z) < least:
        raise DataError(f"Got {len(z)} latents; expected at least {least} to fit this sampler. Take more examples.")
    if not bool(torch.isfinite(z).all()):
        raise DataError("Got NaN or infinite latents; expected finite ones. Look at the model and at its data.")
