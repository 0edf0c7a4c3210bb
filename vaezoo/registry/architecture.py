"""`Architecture`, the arguments that all variants share, and the registries of the names in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from vaezoo.errors import ConfigError, shorten
from vaezoo.registry.options import options_of, parse_options, plain
from vaezoo.registry.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from vaezoo.backbones import Backbone
    from vaezoo.likelihoods import Likelihood
    from vaezoo.networks.network import Network

MAX_ELEMENTS = 2**28  # of x or z: 1 GiB of float32
MAX_DIMENSIONS = 8  # of x or z

backbones: Registry[Callable[..., object]] = Registry("backbone", "vaezoo.backbones", "vaezoo.backbones")
likelihoods: Registry[Callable[..., object]] = Registry("likelihood", "vaezoo.likelihoods", "vaezoo.likelihoods")
samplers: Registry[Callable[..., object]] = Registry("sampler", "vaezoo.samplers", "vaezoo.samplers")

#: a registered name, alone or with options: "conv" or {"name": "conv", "channels": [32, 64]}
Named = str | Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The arguments that all variants share.

    Args:
        shape: event shape of x: (1, 28, 28) for images, (30,) for a row of a table.
        latent: event shape of z.
        context: width of the context, 0 for an unconditional model.
        backbone: name and options of a registered backbone.
        likelihood: name and options of a registered likelihood.
        examples: size of the training set, for objectives that need it; 0 if unknown.
    """

    shape: tuple[int, ...]
    latent: tuple[int, ...]
    context: int = 0
    backbone: Mapping[str, object] = field(default_factory=lambda: {"name": "mlp"})
    likelihood: Mapping[str, object] = field(default_factory=lambda: {"name": "bernoulli"})
    examples: int = 0

    def network(self) -> Backbone:
        """Returns the backbone that `backbone` names."""
        backbone = cast("Backbone", _build(backbones, self.backbone))
        head = self.head()
        return self._with_gaps(backbone, head.features()) if head.gaps else backbone

    def _with_gaps(self, backbone: Backbone, features: Callable[[Tensor], Tensor]) -> Backbone:
        """Returns a backbone whose networks of x take gaps: they receive zeros in their place, and the mask."""
        from vaezoo.networks import GapNetwork, with_mask

        def down(shape: Sequence[int], out: Sequence[int], context: int) -> Network:
            if tuple(shape) != self.shape:
                return backbone.down(shape, out, context)
            return GapNetwork(backbone.down(with_mask(shape), out, context), shape, features)

        return replace(backbone, down=down)

    def down(self, outputs: int) -> Network:
        """Returns the network of an encoder, from x and c to (B, outputs, *latent)."""
        return self.network().down(self.shape, (outputs, *self.latent), self.context)

    def head(self) -> Likelihood:
        """Returns the likelihood that `likelihood` names, for `shape`."""
        return cast("Likelihood", _build(likelihoods, self.likelihood, self.shape))


def check_named(registry: Registry[Callable[..., object]], choice: object) -> dict[str, object]:
    """Returns the validated options of `choice`; raises UnknownNameError or ConfigError."""
    given = named(choice, registry.kind)
    name = str(given.pop("name"))
    return parse_options(f"{registry.kind} {name}", options_of(registry.get(name)), given)


def canonical(registry: Registry[Callable[..., object]], choice: object) -> dict[str, object]:
    """Returns {"name": …, **validated options} for `choice`; raises UnknownNameError or ConfigError."""
    return {"name": named(choice, registry.kind)["name"], **check_named(registry, choice)}


def _build(registry: Registry[Callable[..., object]], choice: Mapping[str, object], *inputs: object) -> object:
    return registry.get(str(choice["name"]))(*inputs, **check_named(registry, choice))


def sizes(value: object, what: str) -> tuple[int, ...]:
    """Returns an event shape from an int or a sequence of ints.

    Raises:
        ConfigError: a size that is not positive, or too many dimensions or elements.
    """
    value = plain(value)
    items = (value,) if isinstance(value, int) else value
    good = isinstance(items, list | tuple) and 0 < len(items) <= MAX_DIMENSIONS
    good = good and all(type(n) is int and n > 0 for n in cast(Sequence[object], items))
    if not good or math.prod(cast(Sequence[int], items)) > MAX_ELEMENTS:
        raise ConfigError(
            f"Got {what} = {shorten(value)}; expected up to {MAX_DIMENSIONS} positive whole numbers, at most "
            f"{MAX_ELEMENTS:,} elements."
        )
    return tuple(cast(Sequence[int], items))


def named(value: object, what: str) -> dict[str, object]:
    """Returns {"name": …, **options} for a name or a mapping of this form; raises ConfigError otherwise."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and isinstance(value.get("name"), str) and all(isinstance(key, str) for key in value):
        return dict(value)
    raise ConfigError(f"Got {what} = {shorten(value)}; expected a name or {{name = …, options}}.")


def code_defaults(width: int) -> dict[str, object]:
    """Returns the default architecture of variants whose codes have `width` elements."""
    return {
        "backbone": "conv",
        "latent": lambda given: given.network().grid(given.shape, width),
        "likelihood": {"name": "gaussian", "scale": 0.1, "scale_kind": "optimal"},
    }
