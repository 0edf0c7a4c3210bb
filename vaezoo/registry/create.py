"""`create` builds an untrained model from names and numbers; `recreate` builds that of a saved config."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from vaezoo.errors import CompositionError, ConfigError, shorten
from vaezoo.registry.architecture import Architecture, Named, backbones, canonical, likelihoods, named, sizes
from vaezoo.registry.options import plain
from vaezoo.registry.variant import Variant, build_order, resolve, split_options, variants

if TYPE_CHECKING:
    from vaezoo.core import VAE

MAX_CONTEXT = 2**24
MAX_EXAMPLES = 2**63


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
        latent: event shape of z, such as 50 or (64, 7, 7); None for the default of the variant.
        context: width of the context, 0 for an unconditional model.
        backbone: a name, or {"name": …} with options of that backbone; None for the default of the variant.
        likelihood: a name, or {"name": …} with options of that likelihood; None for the default of the variant.
        examples: size of the training set, for objectives that need it.
        **options: the variants' hyperparameters; `**{"iwae.samples": 5}` if two variants have one of that name.

    Raises:
        UnknownNameError: a name is not registered.
        ConfigError: an option is unknown, missing or out of range.
        CompositionError: the variants cannot be composed, or need a context.
        ShapeError: the shapes do not fit the variant or the backbone.
    """
    entries = resolve(variant)
    architecture = _complete(entries, shape, latent, context, backbone, likelihood, examples)
    _check_fixed(entries, architecture)
    model = _build(entries, architecture, options)
    model.objective.check_parts(model)
    return model


def recreate(variant: str, options: Mapping[str, object], **architecture: Any) -> VAE:  # Any: `_complete` checks each
    """Builds the model of a saved config.

    Args:
        variant: as in `create`.
        options: as in `create`.
        **architecture: the other arguments of `create`. A backbone or likelihood that contradicts the variant's name is
            accepted, since configs of earlier versions contain such ones.

    Raises:
        UnknownNameError, ConfigError, CompositionError, ShapeError: as in `create`.
    """
    entries = resolve(variant)
    return _build(entries, _complete(entries, **architecture), options)


def _complete(
    entries: Sequence[Variant],
    shape: int | Sequence[int],
    latent: int | Sequence[int] | None = None,
    context: int = 0,
    backbone: Named | None = None,
    likelihood: Named | None = None,
    examples: int = 0,
) -> Architecture:
    """Returns the validated architecture, with defaults of the variants for what is None."""
    defaults: dict[str, object] = {"latent": 16, "backbone": "mlp", "likelihood": "bernoulli"}
    for entry in build_order(entries):
        defaults.update(entry.defaults)
    context, examples = cast(int, plain(context)), cast(int, plain(examples))
    for what, number, limit in (("context", context, MAX_CONTEXT), ("examples", examples, MAX_EXAMPLES)):
        if type(number) is not int or not 0 <= number <= limit:
            raise ConfigError(f"Got {what} = {shorten(number)}; expected a whole number from 0 to {limit}.")
    conditional = [entry.name for entry in entries if entry.context != "optional"]
    if conditional and not context:
        raise CompositionError(
            f"Got context = 0; {conditional[0]!r} needs a context: pass context=N (the number of classes, or the width "
            "of your vectors)."
        )
    known: dict[str, Any] = {  # Any: the fields of Architecture, each of its own type
        "shape": sizes(shape, "shape"),
        "context": context,
        "backbone": canonical(backbones, defaults["backbone"] if backbone is None else backbone),
        "likelihood": canonical(likelihoods, defaults["likelihood"] if likelihood is None else likelihood),
        "examples": examples,
    }
    chosen = defaults["latent"] if latent is None else latent
    if callable(chosen):
        return Architecture(latent=sizes(chosen(Architecture(latent=(1,), **known)), "latent"), **known)
    architecture = Architecture(latent=sizes(chosen, "latent"), **known)
    given = named(defaults["backbone"] if backbone is None else backbone, "backbone")
    suited = architecture.network().defaults(architecture.shape, architecture.latent)
    options = {key: value for key, value in suited.items() if key not in given}
    return replace(architecture, backbone={**architecture.backbone, **options})


def _check_fixed(entries: Sequence[Variant], architecture: Architecture) -> None:
    """Raises ConfigError if the backbone or the likelihood is not that for which a variant is named."""
    for entry in entries:
        for field, permitted in entry.fixed.items():
            found = dict(getattr(architecture, field))
            if not any(each.items() <= found.items() for each in permitted):
                raise ConfigError(
                    f"Got {field} = {shorten(found)}; {entry.name!r} is the name of models with {field} = "
                    f"{' or '.join(map(str, permitted))}. Leave {field} out, or use 'vae' instead of {entry.name!r}."
                )


def _build(entries: Sequence[Variant], architecture: Architecture, options: Mapping[str, object]) -> VAE:
    from vaezoo.core import outside_inference_mode

    parsed = split_options(entries, options)
    with outside_inference_mode():
        model = variants.get("vae").builder(None, architecture)
        for entry in build_order(entries):
            if entry.name != "vae":
                model = entry.builder(model, architecture, **parsed[entry.name])
    flat = {f"{owner}.{key}": value for owner, own in parsed.items() for key, value in own.items()}
    name = "+".join(entry.name for entry in entries)
    config = {"variant": name, "architecture": asdict(architecture), "options": flat}
    model.config = json.loads(json.dumps(config))  # plain values: lists, not tuples
    return model
