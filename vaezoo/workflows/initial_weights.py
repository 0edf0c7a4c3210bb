"""The model that a recipe starts from: its architecture, its weights, and the factors of its latents."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from msgspec.structs import replace

from vaezoo.core import LATENTS, PARTS, VAE
from vaezoo.errors import ConfigError, shorten
from vaezoo.recipe import Recipe
from vaezoo.registry import Architecture
from vaezoo.workflows.load import load


def initial_model(recipe: Recipe) -> VAE | None:
    """Returns the model that `init` names; None without one."""
    return None if recipe.init is None else load(recipe.init)


def with_architecture(recipe: Recipe, source: VAE | None, shape: Sequence[int]) -> Recipe:
    """Returns the recipe with the architecture of `source` for what `[architecture]` leaves out, if it has `from_init`.

    A grid of latents has the size that the backbone reaches from examples of this shape, which may be larger or smaller
    than those of `source`.

    Raises:
        ConfigError: there is no `init`.
    """
    table = recipe.architecture
    if not table.from_init:
        return recipe
    if source is None or source.config is None:
        raise ConfigError("Got architecture.from_init = true without init; expected init, the model to start from.")
    theirs = cast("Mapping[str, Any]", source.config["architecture"])  # Any: JSON
    backbone = theirs["backbone"] if table.backbone is None else table.backbone
    likelihood = theirs["likelihood"] if table.likelihood is None else table.likelihood
    latent = table.latent
    if latent is None:
        latent = list(theirs["latent"])
        if len(latent) == 3 and source.shape != tuple(shape) and table.backbone is None:
            network = Architecture(shape=tuple(shape), latent=tuple(latent), backbone=theirs["backbone"]).network()
            latent = list(network.grid(shape, latent[0]))
    own = replace(table, from_init=False, backbone=backbone, likelihood=likelihood, latent=latent)
    return replace(recipe, architecture=own)


def start_from(model: VAE, init: str | None, source: VAE | None) -> list[str] | None:
    """Copies the weights of `source`, which `init` names, and returns the parts that it lacks; None without a model.

    Raises:
        ConfigError: no tensor fits, or one of the same name has another shape.
    """
    if source is None:
        return None
    given, own = source.state_dict(), model.state_dict()
    shared = own.keys() & given.keys()
    wrong = [key for key in sorted(shared) if own[key].shape != given[key].shape]
    if not shared or wrong:
        reason = "no tensor has the same name"
        for key in wrong[:1]:
            reason = f"{key} is {tuple(given[key].shape)} there, {tuple(own[key].shape)} here"
        raise ConfigError(
            f"init = {shorten(init)} does not fit the recipe's model: {reason}. Use the same architecture "
            "(architecture.from_init = true)."
        )
    model.load_state_dict({key: given[key] for key in shared}, strict=False)
    return [part for part in PARTS if not any(key.startswith(f"{part}.") for key in shared)]


def kept_factors(model: VAE, source: VAE | None) -> dict[str, object]:
    """Returns the factors of latents that a model keeps of `source`, as a field of its config.

    They are kept if the model starts with the whole encoder of `source`: diffusion models were trained on latents that
    are scaled by them.
    """
    facts = None if source is None else (source.config or {}).get(LATENTS)
    if source is None or facts is None:
        return {}
    whole = model.encoder.state_dict().keys() == source.encoder.state_dict().keys()
    return {LATENTS: facts} if whole else {}
