"""`create`: from names and numbers to an untrained model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vaezoo.errors import CompositionError, ConfigError, shorten
from vaezoo.registry.architecture import LARGEST, Architecture, Named, backbones, canonical, likelihoods, sizes
from vaezoo.registry.variant import Variant, build_order, resolve, split_options, variants

if TYPE_CHECKING:
    from vaezoo.core import VAE

__all__ = ["architecture_for", "create"]


def architecture_for(
    entries: Sequence[Variant],
    *,
    shape: int | Sequence[int],
    latent: int | Sequence[int] | None = None,
    context: int = 0,
    backbone: Named | None = None,
    likelihood: Named | None = None,
    examples: int = 0,
) -> Architecture:
    """Returns the architecture with what the variants need filled in; see `create`."""
    defaults: dict[str, object] = {"latent": 16, "backbone": "mlp", "likelihood": "bernoulli"}
    for entry in build_order(entries):
        defaults.update(entry.defaults)
    for what, number, limit in (("context", context, LARGEST), ("examples", examples, 2**63)):
        if type(number) is not int or not 0 <= number <= limit:
            raise ConfigError(f"Got {what} = {shorten(number)}; expected a whole number from 0 to {limit}.")
    needy = [entry.name for entry in entries if entry.context != "optional"]
    if needy and not context:
        raise CompositionError(
            f"{needy[0]!r} needs a context: pass context=N (the number of classes, or the width of your vectors)."
        )
    known: dict[str, Any] = {  # Any: the fields of Architecture, each of its own type
        "shape": sizes(shape, "shape"),
        "context": context,
        "backbone": canonical(backbones, defaults["backbone"] if backbone is None else backbone),
        "likelihood": canonical(likelihoods, defaults["likelihood"] if likelihood is None else likelihood),
        "examples": examples,
    }
    wanted = defaults["latent"] if latent is None else latent
    if callable(wanted):
        wanted = wanted(Architecture(latent=(1,), **known))
    return Architecture(latent=sizes(wanted, "latent"), **known)


def create(
    variant: str,
    *,
    shape: int | Sequence[int],
    latent: int | Sequence[int] | None = None,
    context: int = 0,
    backbone: Named | None = None,
    likelihood: Named | None = None,
    examples: int = 0,
    **options: object,
) -> VAE:
    """Builds an untrained model by name, with fresh weights from torch's random state.

    Args:
        variant: a registered name, or several that change different parts: "conv-vae+iwae".
        shape: event shape of x, such as (1, 28, 28) or 30.
        latent: event shape of z, such as 50 or (64, 7, 7); None for the variant's own default.
        context: width of the context, 0 for an unconditional model.
        backbone: a name, or {"name": …} with that entry's options.
        likelihood: likewise.
        examples: training-set size, where an objective needs it.
        **options: the variants' hyperparameters; `**{"iwae.samples": 5}` where two have one of that name.

    Raises:
        UnknownNameError, ConfigError, CompositionError, ShapeError: what was got, what was expected and what to do.
    """
    entries = resolve(variant)
    parsed = split_options(entries, options)
    architecture = architecture_for(
        entries,
        shape=shape,
        latent=latent,
        context=context,
        backbone=backbone,
        likelihood=likelihood,
        examples=examples,
    )
    model = variants.get("vae").builder(None, architecture)
    for entry in build_order(entries):
        if entry.name != "vae":
            model = entry.builder(model, architecture, **parsed[entry.name])
    flat = {f"{owner}.{key}": value for owner, own in parsed.items() for key, value in own.items()}
    name = "+".join(entry.name for entry in entries)
    config = {"variant": name, "architecture": architecture.as_dict(), "options": flat}
    model.config = json.loads(json.dumps(config))  # plain values: lists, not tuples
    return model
