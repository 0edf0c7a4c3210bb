"""Latents as tensors for another model, such as a diffusion model, optionally normalized by stored factors."""

from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core.checks import check_latent
from vaezoo.core.modes import differentiable
from vaezoo.core.part import Context
from vaezoo.core.posterior import center, sample_with_log_prob
from vaezoo.core.random import seeded
from vaezoo.errors import ConfigError

LATENTS = "latents"  # the field of a config with `scaling_factor` and `shift_factor`


class Model(Protocol):
    """What `LatentMethods` uses of a model."""

    latent: tuple[int, ...] | None
    config: Mapping[str, object] | None

    def encode(self, x: Tensor, c: Context | None = None) -> Distribution:
        """Returns the posterior q(z|x,c)."""

    def decode(self, z: Tensor, c: Context | None = None) -> Distribution:
        """Returns the likelihood p(x|z,c)."""


class LatentMethods:
    """Methods of a `VAE` that return and take latents as tensors."""

    @differentiable
    def latents(
        self: Model,
        x: Tensor,
        c: Context | None = None,
        scaled: bool = False,
        *,
        sample: bool = False,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Returns the center of the posterior of `x` (B, *shape), the point that `reconstruct` decodes, (B, *latent).

        Args:
            x: (B, *shape).
            c: as in `forward`.
            scaled: whether to return (z - shift_factor) * scaling_factor, with the factors that
                `vaezoo.evaluation.latent_report(..., write=True)` stored in the model's config.
            sample: whether to return one draw of the posterior of each example in place of its center.
            seed: of the draw, as in `sample`.
            generator: draws from it in place of a seed.

        Gradients are recorded as by `encode`: in eval mode only if `x` or `c` requires one.

        Raises:
            ConfigError: `scaled`, but the config has no factors; or a seed out of range.
            ShapeError, SupportError, ContextError: as in `encode`.
        """
        factors = stored_factors(self.config) if scaled else None
        posterior = self.encode(x, c)
        if sample:
            with seeded(seed, generator):
                z = sample_with_log_prob(posterior, 1)[0][0]
        else:
            z = center(posterior)
        if factors is None:
            return z
        scale, shift = (as_channels(each, z, len(posterior.event_shape)) for each in factors)
        return (z - shift) * scale

    @differentiable
    def decode_latents(self: Model, z: Tensor, c: Context | None = None, scaled: bool = False) -> Tensor:
        """Returns the mean of p(x|z,c) of latents as `latents` returns them, (..., B, *shape).

        Args:
            z: (..., B, *latent).
            c: as in `forward`.
            scaled: whether `z` is scaled, so that z / scaling_factor + shift_factor is decoded.

        Gradients are recorded as by `decode`: in eval mode only if `z` or `c` requires one.

        Raises:
            ConfigError: `scaled`, but the config has no factors.
            ShapeError, SupportError, ContextError: as in `decode`.
        """
        if scaled:
            factors = stored_factors(self.config)
            z = check_latent(z, self.latent)
            z = z.to(torch.promote_types(z.dtype, torch.float32))
            scale, shift = (as_channels(each, z, len(self.latent or ())) for each in factors)
            z = z / scale + shift
        return self.decode(z, c).mean


def stored_factors(config: Mapping[str, object] | None) -> tuple[object, object]:
    """Returns `scaling_factor` and `shift_factor` of a model's config, a number each or a list of one for each channel.

    Raises:
        ConfigError: it has none.
    """
    facts = cast("Mapping[str, object] | None", (config or {}).get(LATENTS))
    if facts is None:
        raise ConfigError(
            "Got scaled=True; the config of this model has no scaling_factor and shift_factor. Measure and store them "
            "first: vaezoo.evaluation.latent_report(model, data, write=True), or vaezoo latents FOLDER --write."
        )
    return facts["scaling_factor"], facts["shift_factor"]


def as_channels(factor: object, z: Tensor, dims: int) -> Tensor:
    """Returns a number, or one for each channel, as a tensor that broadcasts over z (..., C, *grid) with `dims` axes.

    Args:
        factor: a number, or a list of C.
        z: latents, whose type and device the result has.
        dims: the number of axes of one latent, 1 + len(grid).
    """
    values = torch.as_tensor(factor, dtype=z.dtype, device=z.device)
    return values.reshape(-1, *[1] * (dims - 1)) if values.dim() else values
