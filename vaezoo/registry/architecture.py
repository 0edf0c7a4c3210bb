"""What all variants share: `Architecture`, and the registries of backbones and likelihoods that it names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

from vaezoo.errors import ConfigError, shorten
from vaezoo.registry.options import options_of, parse_options
from vaezoo.registry.registry import Registry

if TYPE_CHECKING:
    from vaezoo.backbones import Backbone
    from vaezoo.likelihoods import Likelihood
    from vaezoo.networks.network import Network

__all__ = [
    "Architecture",
    "Named",
    "backbones",
    "canonical",
    "check_named",
    "code_defaults",
    "likelihoods",
    "samplers",
    "sizes",
]

LARGEST = 2**24  # elements of x or z: beyond it a config is a mistake or an attack, not a model
DEEPEST = 8  # dimensions of x or z

backbones: Registry[Callable[..., object]] = Registry("backbone", "vaezoo.backbones", "vaezoo.backbones")
likelihoods: Registry[Callable[..., object]] = Registry("likelihood", "vaezoo.likelihoods", "vaezoo.likelihoods")
samplers: Registry[Callable[..., object]] = Registry("sampler", "vaezoo.samplers", "vaezoo.samplers")

#: a registered name, with that entry's own options: "conv" or {"name": "conv", "channels": [32, 64]}
Named = str | Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What all variants share.

    Args:
        shape: event shape of x: (1, 28, 28) for images, (30,) for a table's row.
        latent: event shape of z.
        context: width of the context, 0 for an unconditional model.
        backbone: a name with that entry's own options.
        likelihood: likewise.
        examples: training-set size, for objectives that need it; 0 when unknown.
    """

    shape: tuple[int, ...]
    latent: tuple[int, ...]
    context: int = 0
    backbone: Mapping[str, object] = field(default_factory=lambda: {"name": "mlp"})
    likelihood: Mapping[str, object] = field(default_factory=lambda: {"name": "bernoulli"})
    examples: int = 0

    def network(self) -> Backbone:
        """Returns the backbone that `backbone` names."""
        return cast("Backbone", _build(backbones, self.backbone))

    def down(self, outputs: int) -> Network:
        """Returns an encoder's network, from x and c to (B, outputs, *latent)."""
        return self.network().down(self.shape, (outputs, *self.latent), self.context)

    def head(self) -> Likelihood:
        """Returns the likelihood that `likelihood` names, for `shape`."""
        return cast("Likelihood", _build(likelihoods, self.likelihood, self.shape))

    def as_dict(self) -> dict[str, object]:
        """Returns plain values, as a config holds them."""
        return {
            "shape": list(self.shape),
            "latent": list(self.latent),
            "context": self.context,
            "backbone": dict(self.backbone),
            "likelihood": dict(self.likelihood),
            "examples": self.examples,
        }


def check_named(registry: Registry[Callable[..., object]], choice: object) -> dict[str, object]:
    """Returns the checked options of a name with options; raises UnknownNameError or ConfigError."""
    given = named(choice, registry.kind)
    name = str(given.pop("name"))
    return parse_options(f"{registry.kind} {name}", options_of(registry.get(name)), given)


def canonical(registry: Registry[Callable[..., object]], choice: object) -> dict[str, object]:
    """Returns {"name": …, **checked options} of a name with options; raises UnknownNameError or ConfigError."""
    return {"name": named(choice, registry.kind)["name"], **check_named(registry, choice)}


def _build(registry: Registry[Callable[..., object]], choice: Mapping[str, object], *inputs: object) -> object:
    return registry.get(str(choice["name"]))(*inputs, **check_named(registry, choice))


def sizes(value: object, what: str) -> tuple[int, ...]:
    """Returns an event shape from an int or a sequence of ints; raises ConfigError unless all are positive and sane."""
    items = (value,) if isinstance(value, int) else value
    good = isinstance(items, list | tuple) and 0 < len(items) <= DEEPEST
    good = good and all(type(n) is int and n > 0 for n in cast(Sequence[object], items))
    if not good or math.prod(cast(Sequence[int], items)) > LARGEST:
        raise ConfigError(
            f"Got {what} = {shorten(value)}; expected up to {DEEPEST} positive sizes, {LARGEST} elements at most."
        )
    return tuple(cast(Sequence[int], items))


def named(value: object, what: str) -> dict[str, object]:
    """Returns {"name": …, **options} from a name or such a mapping; raises ConfigError otherwise."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and isinstance(value.get("name"), str) and all(isinstance(key, str) for key in value):
        return dict(value)
    raise ConfigError(f"Got {what} = {shorten(value)}; expected a name or {{name = …, options}}.")


def code_defaults(width: int) -> dict[str, object]:
    """Returns what variants whose codes have `width` numbers ask of an architecture that says nothing else."""
    likelihood = {"name": "gaussian", "scale": 0.1, "scale_kind": "optimal"}
    return {"backbone": "conv", "latent": partial(natural_latent, width), "likelihood": likelihood}


def natural_latent(width: int, architecture: Architecture) -> tuple[int, ...]:
    """Returns the latent (width, *grid) that the backbone reaches by itself."""
    return architecture.network().grid(architecture.shape, width)
