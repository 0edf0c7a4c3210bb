"""One registry class for everything that has a name; `Architecture`; `create`.

Built-ins are found as files, not listed: `vaezoo/variants/beta_vae.py` is `beta-vae`. Third parties register through entry
points (`vaezoo.variants`, `vaezoo.backbones`, `vaezoo.likelihoods`, `vaezoo.datasets`). Listing names imports nothing.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

import msgspec

from vaezoo.errors import (
    CompositionError,
    ConfigError,
    PluginWarning,
    RegistryCollisionError,
    UnknownNameError,
    did_you_mean,
    shorten,
)

if TYPE_CHECKING:
    from vaezoo.likelihoods import Likelihood
    from vaezoo.model import VAE
    from vaezoo.networks import Backbone

__all__ = ["Architecture", "Registry", "Variant", "backbones", "create", "likelihoods", "register", "variants"]

T = TypeVar("T")
LARGEST = 2**24  # elements of x or z: beyond it a config is a mistake or an attack, not a model


class Registry(Generic[T]):
    """Names of one kind, with what each stands for.

    Args:
        kind: what the names are, for messages.
        group: the entry-point group through which other packages register.
        package: where built-ins are found: the name `a-b` is `a_b` in the module `package.a_b`.
    """

    def __init__(self, kind: str, group: str, package: str | None = None) -> None:
        self.kind, self.group, self.package = kind, group, package
        self._entries: dict[str, T] = {}
        self._owners: dict[str, str] = {}
        self._warned: set[str] = set()

    @cached_property
    def builtin(self) -> frozenset[str]:
        """The names found as files of the package."""
        spec = find_spec(self.package) if self.package else None
        places = list(spec.submodule_search_locations or ()) if spec else []
        return frozenset(module.name.replace("_", "-") for module in pkgutil.iter_modules(places))

    def plugins(self) -> dict[str, EntryPoint]:
        """Returns the entry points of other packages, by name; a built-in name or a second owner is refused."""
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self.group):
            if point.name in self.builtin:
                self._warn(point, f"the name belongs to vaezoo itself; {owner_of(point)} must choose another")
            elif point.name in found and owner_of(found[point.name]) != owner_of(point):
                raise RegistryCollisionError(
                    f"Two packages register the {self.kind} {point.name!r}: {owner_of(found[point.name])} and "
                    f"{owner_of(point)}. Uninstall one of them."
                )
            else:
                found[point.name] = point
        return found

    def names(self) -> list[str]:
        """Returns every name, sorted; imports nothing."""
        return sorted({*self.builtin, *self.plugins(), *self._entries})

    def register(self, name: str, entry: T, *, owner: str = "your code", override: bool = False) -> T:
        """Files `entry` under `name`.

        Raises:
            RegistryCollisionError: the name is taken by another owner and `override` is False.
        """
        builtin_owner = f"{self.package}.{name.replace('-', '_')}"
        taken = "vaezoo" if name in self.builtin and owner != builtin_owner else self._owners.get(name)
        if taken is not None and taken != owner and not override:
            raise RegistryCollisionError(
                f"The {self.kind} {name!r} of {owner} is already registered by {taken}. Choose another name, or pass "
                "override=True."
            )
        self._entries[name], self._owners[name] = entry, owner
        return entry

    def get(self, name: str) -> T:
        """Returns what `name` stands for, importing its module on first use.

        Raises:
            UnknownNameError: with the closest names.
        """
        if name not in self._entries:
            if name in self.builtin:
                module = importlib.import_module(f"{self.package}.{name.replace('-', '_')}")
                if name not in self._entries:
                    self._entries[name] = getattr(module, name.replace("-", "_"))
            else:
                self._load_plugin(name)
        return self._entries[name]

    def _load_plugin(self, name: str) -> None:
        point = self.plugins().get(name) if isinstance(name, str) else None
        hint = ""
        if point is not None:
            try:
                loaded = point.load()
                self._entries.setdefault(name, loaded)
                return
            except Exception as error:  # a broken plug-in must break nothing else
                hint = f"The plug-in {owner_of(point)} that offers it failed to load: {type(error).__name__}: {error}."
                self._warn(point, hint)
        raise UnknownNameError(self.kind, name, self.names(), hint)

    def _warn(self, point: EntryPoint, reason: str) -> None:
        if point.value not in self._warned:
            self._warned.add(point.value)
            warnings.warn(f"The {self.kind} {point.name!r} was ignored: {reason}", PluginWarning, stacklevel=3)


def owner_of(point: EntryPoint) -> str:
    """Returns the name of the distribution that an entry point comes from."""
    return point.dist.name if point.dist is not None else point.value


@dataclass(frozen=True, kw_only=True)
class Option:
    """One keyword of a builder: its type with its range, and its default."""

    name: str
    type: Any  # a typing object such as Annotated[float, Meta(ge=0)]: typing has no name for these
    default: object
    required: bool = False

    def parse(self, value: object, path: str) -> object:
        """Returns `value` if it fits; raises ConfigError with `path`, what was got and what was expected."""
        try:
            return cast(object, msgspec.convert(value, type=self.type, strict=True))
        except msgspec.ValidationError as error:
            raise ConfigError(f"{path}: {error}; got {shorten(value)}.") from None


def options_of(builder: Callable[..., object]) -> dict[str, Option]:
    """Returns the keyword-only parameters of a builder."""
    inner = builder.__init__ if inspect.isclass(builder) else builder
    hints = typing.get_type_hints(inner, include_extras=True)
    return {
        name: Option(
            name=name,
            type=hints[name],
            default=None if parameter.default is parameter.empty else parameter.default,
            required=parameter.default is parameter.empty,
        )
        for name, parameter in inspect.signature(inner).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def parse_options(owner: str, known: Mapping[str, Option], given: Mapping[str, object]) -> dict[str, object]:
    """Returns the options of `given`, each checked.

    Raises:
        ConfigError: all mistakes at once: unknown names with the closest known one, wrong types, values out of range.
    """
    mistakes, parsed = [], {}
    for name, value in given.items():
        if name not in known:
            choice = ", ".join(known) or "none"
            mistakes.append(f"{owner}: unknown option {shorten(name)}.{did_you_mean(name, known)} Options: {choice}.")
            continue
        try:
            parsed[name] = known[name].parse(value, f"{owner}: option {name}")
        except ConfigError as error:
            mistakes.append(str(error))
    mistakes += [f"{owner}: option {name} is missing." for name in known if known[name].required and name not in given]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return parsed


#: a registered name, with that entry's own options: "conv" or {"name": "conv", "channels": [32, 64]}
Named = str | Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What all variants share.

    Args:
        shape: event shape of x: (1, 28, 28) for images, (30,) for a table's row.
        latent: event shape of z.
        context: width of the context, 0 for an unconditional model.
        backbone, likelihood: a name with that entry's own options.
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
    builder = registry.get(str(given.pop("name")))
    return parse_options(f"{registry.kind} {named(choice, registry.kind)['name']}", options_of(builder), given)


def _build(registry: Registry[Callable[..., object]], choice: Mapping[str, object], *inputs: object) -> object:
    return registry.get(str(choice["name"]))(*inputs, **check_named(registry, choice))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A registered variant: its builder, which parts it changes, and where it was published."""

    name: str
    builder: Callable[..., VAE]
    changes: tuple[str, ...]
    year: int
    paper: str
    url: str
    defaults: Mapping[str, object]
    context: Literal["required", "optional", "labels"]
    couples_examples: bool

    @cached_property
    def options(self) -> dict[str, Option]:
        """The builder's keyword-only parameters: the paper's hyperparameters."""
        return options_of(self.builder)


backbones: Registry[Callable[..., object]] = Registry("backbone", "vaezoo.backbones", "vaezoo.networks")
likelihoods: Registry[Callable[..., object]] = Registry("likelihood", "vaezoo.likelihoods", "vaezoo.likelihoods")
variants: Registry[Variant] = Registry("variant", "vaezoo.variants", "vaezoo.variants")


def register(
    name: str,
    *,
    changes: str | Sequence[str] = (),
    year: int = 0,
    paper: str = "",
    url: str = "",
    defaults: Mapping[str, object] | None = None,
    context: Literal["required", "optional", "labels"] = "optional",
    couples_examples: bool = False,
    override: bool = False,
) -> Callable[[Callable[..., VAE]], Variant]:
    """Registers the decorated builder `(base, architecture, *, options) -> VAE` as the variant `name`.

    Args:
        name: what it is called; `a-b`, never `a_b`.
        changes: which parts it changes: "encoder", "decoder", "prior", "objective", "backbone".
        year, paper, url: where it was published.
        defaults: what it needs of an `Architecture` unless told otherwise; a callable is given the other fields.
        context: "required" where it makes no sense without one.
        couples_examples: whether an example's loss depends on the others in the batch.
        override: take a name that another owner has.

    Raises:
        RegistryCollisionError: the name is taken.
        ConfigError: an option is named like a field that all variants share, or the name is malformed.
    """
    if not name or name != name.lower() or not name.replace("-", "").isalnum():
        raise ConfigError(f"Got variant name {name!r}; expected lower-case letters, digits and single hyphens.")

    def decorate(builder: Callable[..., VAE]) -> Variant:
        entry = Variant(
            name=name,
            builder=builder,
            changes=(changes,) if isinstance(changes, str) else tuple(changes),
            year=year,
            paper=paper,
            url=url,
            defaults=defaults or {},
            context=context,
            couples_examples=couples_examples,
        )
        clash = {f.name for f in fields(Architecture)} & set(entry.options)
        if clash:
            raise ConfigError(f"Variant {name!r} names an option like a shared field: {', '.join(sorted(clash))}.")
        return variants.register(name, entry, owner=builder.__module__, override=override)

    return decorate


def chosen(name: str) -> list[Variant]:
    """Returns the variants of a composed name such as "conv-vae+iwae", in order.

    Raises:
        UnknownNameError: one of them is not registered.
        CompositionError: two change the same part.
    """
    entries = [variants.get(each.strip()) for each in name.split("+")]
    owners: dict[str, str] = {}
    for entry in entries:
        for part in entry.changes:
            if part in owners:
                raise CompositionError(
                    f"{owners[part]!r} and {entry.name!r} cannot be composed: both change the {part}. Leave one out."
                )
            owners[part] = entry.name
    return entries


def split_options(entries: Sequence[Variant], given: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Returns each variant's own options; `variant.option` names one that several variants have.

    Raises:
        ConfigError: all mistakes at once.
    """
    shares: dict[str, dict[str, object]] = {entry.name: {} for entry in entries}
    mistakes: list[str] = []
    for key, value in given.items():
        owner, _, option = key.rpartition(".")
        takers = [e.name for e in entries if (option in e.options and owner in ("", e.name))]
        if len(takers) == 1:
            shares[takers[0]][option] = value
        elif takers:
            mistakes.append(f"Option {option!r} belongs to {' and '.join(takers)}: write '{takers[0]}.{option}'.")
        else:
            known = sorted({name for e in entries for name in e.options})
            name = "+".join(e.name for e in entries)
            mistakes.append(
                f"{name}: unknown option {shorten(key)}.{did_you_mean(key, known)} Options: {', '.join(known) or 'none'}."
            )
    parsed: dict[str, dict[str, object]] = {}
    for entry in entries:
        try:
            parsed[entry.name] = parse_options(f"variant {entry.name}", entry.options, shares[entry.name])
        except ConfigError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return parsed


def sizes(value: object, what: str) -> tuple[int, ...]:
    """Returns an event shape from an int or a sequence of ints; raises ConfigError unless all are positive and sane."""
    items = (value,) if isinstance(value, int) else value
    good = isinstance(items, list | tuple) and items and all(type(n) is int and n > 0 for n in items)
    if not good or math.prod(cast(Sequence[int], items)) > LARGEST:
        raise ConfigError(f"Got {what} = {shorten(value)}; expected positive sizes of at most {LARGEST} elements in all.")
    return tuple(cast(Sequence[int], items))


def named(value: object, what: str) -> dict[str, object]:
    """Returns {"name": …, **options} from a name or such a mapping; raises ConfigError otherwise."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        return dict(value)
    raise ConfigError(f"Got {what} = {shorten(value)}; expected a name or {{name = …, options}}.")


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
    for entry in entries:
        defaults.update(entry.defaults)
    if not isinstance(context, int) or not 0 <= context <= LARGEST:
        raise ConfigError(f"Got context = {shorten(context)}; expected a width from 0 (unconditional) up.")
    needy = [entry.name for entry in entries if entry.context != "optional"]
    if needy and not context:
        raise CompositionError(
            f"{needy[0]!r} needs a context: pass context=N (the number of classes, or the width of your vectors)."
        )
    known: dict[str, Any] = {  # Any: the fields of Architecture, each of its own type
        "shape": sizes(shape, "shape"),
        "context": context,
        "backbone": named(defaults["backbone"] if backbone is None else backbone, "backbone"),
        "likelihood": named(defaults["likelihood"] if likelihood is None else likelihood, "likelihood"),
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
        backbone, likelihood: a name, or {"name": …} with that entry's options.
        examples: training-set size, where an objective needs it.
        **options: the variants' hyperparameters; `**{"iwae.samples": 5}` where two have one of that name.

    Raises:
        UnknownNameError, ConfigError, CompositionError, ShapeError: what was got, what was expected and what to do.
    """
    entries = chosen(variant)
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
    for entry in entries:
        if entry.name != "vae":
            model = entry.builder(model, architecture, **parsed[entry.name])
    flat = {f"{owner}.{key}": value for owner, own in parsed.items() for key, value in own.items()}
    model.config = {
        "variant": "+".join(entry.name for entry in entries),
        "architecture": architecture.as_dict(),
        "options": flat,
    }
    return model
