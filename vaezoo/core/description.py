"""The line that describes a model."""

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from torch import nn


class Described(Protocol):
    """What `headline` reads of a model."""

    shape: tuple[int, ...] | None
    latent: tuple[int, ...] | None
    context: int
    config: Mapping[str, object] | None


def headline(model: Described) -> str:
    """Returns "beta-vae(beta=4.0): (1, 28, 28) → 10 latents, 961,604 parameters"."""
    parameters = sum(each.numel() for each in cast(nn.Module, model).parameters())
    name = options_text(model.config) if model.config else type(model).__name__
    context = f" with a context of {model.context}" if model.context else ""
    return f"{name}: {model.shape or 'any'}{context} → {size_text(model.latent)}, {parameters:,} parameters"


def size_text(latent: Sequence[int] | None) -> str:
    """Returns "10 latents", "(32, 7, 7) latents" or "any latents"."""
    if latent is None:
        return "any latents"
    return f"{latent[0] if len(latent) == 1 else tuple(latent)} latents"


def options_text(config: Mapping[str, object]) -> str:
    """Returns "beta-vae(beta=4.0)" for a config; an option name that two variants have is written in full."""
    options = cast(Mapping[str, object], config["options"])
    keys = [key.rpartition(".")[2] for key in options]
    names = [short if keys.count(short) == 1 else key for key, short in zip(options, keys, strict=True)]
    given = ", ".join(f"{name}={value!r}" for name, value in zip(names, options.values(), strict=True))
    return f"{config['variant']}({given})" if given else str(config["variant"])
