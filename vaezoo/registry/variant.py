"""`register`: how a builder becomes a variant; which variants a composed name stands for, and whose an option is."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

from vaezoo.errors import CompositionError, ConfigError, UnknownNameError, did_you_mean, shorten
from vaezoo.registry.architecture import Architecture
from vaezoo.registry.options import Option, options_of, parse_options
from vaezoo.registry.registry import Registry

if TYPE_CHECKING:
    from vaezoo.core import VAE

__all__ = ["Variant", "list_variants", "register", "resolve", "split_options", "variants", "with_requirements"]

MOST = 16  # variants in one name: they change different parts, of which there are fewer
CHANGES = frozenset({"encoder", "decoder", "prior", "objective", "backbone", "likelihood"})
Rate = Literal["closed form", "sampled", "no density"]


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
    rate: Rate
    yields: Mapping[str, str]
    requires: str

    @cached_property
    def options(self) -> dict[str, Option]:
        """The builder's keyword-only parameters: the paper's hyperparameters."""
        return options_of(self.builder)


variants: Registry[Variant] = Registry(
    "variant", "vaezoo.variants", "vaezoo.variants", lambda entry: isinstance(entry, Variant)
)


def list_variants(pattern: str = "*") -> list[str]:
    """Returns the names of registered variants that match a shell pattern; imports none of them."""
    return [name for name in variants.names() if fnmatch.fnmatchcase(name, pattern)]


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
    rate: Rate = "closed form",
    yields: Mapping[str, str] | None = None,
    requires: str = "",
    override: bool = False,
) -> Callable[[Callable[..., VAE]], Variant]:
    """Registers the decorated builder `(base, architecture, *, options) -> VAE` as the variant `name`.

    Args:
        name: what it is called; `a-b`, never `a_b`.
        changes: which parts it changes: "encoder", "decoder", "prior", "objective"; "backbone" or "likelihood" where it
            only has another default.
        year: when it was published.
        paper: by whom.
        url: where.
        defaults: what it needs of an `Architecture` unless told otherwise; a callable is given the other fields.
        context: "required" where it makes no sense without one.
        couples_examples: whether an example's loss depends on the others in the batch.
        rate: how its rate is computed: in "closed form"; "sampled"; or "no density", where the posterior is a point
            mass in a continuous space, which has none: then -log p(z) is reported in its place.
        yields: parts that it changes but leaves to a variant that `requires` the same word: {"prior": "codes"} says
            that the prior it brings gives way to another prior over codes. {"objective": "any"} leaves it to every
            variant that changes it.
        requires: such a word: it composes only with a variant in whose `yields` it is.
        override: take a name that another owner has.

    Raises:
        RegistryCollisionError: the name is taken.
        ConfigError: an option is named like a field that all variants share, or the name, `changes`, `defaults` or
            `requires` is malformed.
    """
    changed = (changes,) if isinstance(changes, str) else tuple(changes)
    shared = {each.name for each in fields(Architecture)}
    left = yields or {}
    check_head(
        name, requires, changes=(changed, CHANGES), defaults=(defaults or {}, shared), yields=(left, set(changed))
    )
    of = partial(
        Variant, name=name, changes=changed, year=year, paper=paper, url=url, defaults=defaults or {}, requires=requires
    )

    def decorate(builder: Callable[..., VAE]) -> Variant:
        entry = of(builder=builder, context=context, couples_examples=couples_examples, rate=rate, yields=left)
        clash = shared & set(entry.options)
        if clash:
            raise ConfigError(f"Variant {name!r} names an option like a shared field: {', '.join(sorted(clash))}.")
        return variants.register(name, entry, owner=builder.__module__, override=override)

    return decorate


def check_head(name: str, requires: str, **facts: tuple[Iterable[str], Set[str]]) -> None:
    """Raises ConfigError for a malformed name, a word that cannot be needed, or facts with words that are not known."""
    if requires == "any":
        raise ConfigError(f"Variant {name!r} requires 'any', a word that has a meaning in `yields`. Choose another.")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ConfigError(f"Got variant name {shorten(name)}; expected lower-case letters, digits and single hyphens.")
    for what, (got, known) in facts.items():
        if set(got) - known:
            raise ConfigError(f"Variant {name!r}: got {what} = {shorten(got)}; expected of {', '.join(sorted(known))}.")


def resolve(name: str) -> list[Variant]:
    """Returns the variants of a composed name such as "conv-vae+iwae", in order.

    Raises:
        UnknownNameError: one of them is not registered.
        CompositionError: two change the same part, one is named twice, or one lacks what it needs.
    """
    if not isinstance(name, str):
        raise UnknownNameError("variant", name, variants.names(), "A name is a string.")
    if name.count("+") >= MOST:
        raise CompositionError(f"{shorten(name)} names {name.count('+') + 1:,} variants; expected at most {MOST}.")
    entries = [variants.get(each.strip(" ")) for each in name.split("+")]
    names = [entry.name for entry in entries]
    twice = [each for each in names if names.count(each) > 1]
    if twice:
        raise CompositionError(f"{shorten(name)} names {twice[0]!r} twice. Leave one out.")
    owners: dict[str, Variant] = {}
    for entry in entries:
        for part in entry.changes:
            other = owners.get(part, entry)
            if other is not entry and not yields_part(other, entry, part) and not yields_part(entry, other, part):
                raise CompositionError(
                    f"{other.name!r} and {entry.name!r} cannot be composed: both change the {part}. Leave one out."
                )
            owners[part] = entry if yields_part(other, entry, part) else other
    for entry in entries:
        if entry.requires and not any(entry.requires in other.yields.values() for other in entries):
            raise CompositionError(
                f"{entry.name!r} needs a variant that has {entry.requires}: write "
                f"{with_requirements(entry.name)!r}, for example."
            )
    return entries


def yields_part(one: Variant, other: Variant, part: str) -> bool:
    """Says whether `one` leaves a part that both change to `other`."""
    left = one.yields.get(part)
    return left == "any" or (bool(other.requires) and left == other.requires)


def build_order(entries: Iterable[Variant]) -> list[Variant]:
    """Returns variants as they are built: what leaves a part to any other first, what needs something last."""
    return sorted(entries, key=lambda entry: (bool(entry.requires), "any" not in entry.yields.values()))


def with_requirements(name: str) -> str:
    """Returns a variant's name behind that of the oldest one that has what it needs; its own name if it needs nothing.

    "code-prior", say, becomes "vq-vae+code-prior".
    """
    needs = variants.get(name).requires
    able = [each for each in map(variants.get, variants.builtin if needs else ()) if needs in each.yields.values()]
    return "+".join([*(each.name for each in sorted(able, key=lambda each: (each.year, each.name))[:1]), name])


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
        if len(takers) == 1 and option in shares[takers[0]]:
            mistakes.append(f"Option {option!r} of {takers[0]} is given twice. Leave one out.")
        elif len(takers) == 1:
            shares[takers[0]][option] = value
        elif takers:
            mistakes.append(f"Option {option!r} belongs to {' and '.join(takers)}: write '{takers[0]}.{option}'.")
        else:
            known = sorted({each for e in entries for each in e.options})
            names, choice = "+".join(e.name for e in entries), ", ".join(known) or "none"
            mistakes.append(f"{names}: unknown option {shorten(key)}.{did_you_mean(option, known)} Options: {choice}.")
    parsed: dict[str, dict[str, object]] = {}
    for entry in entries:
        try:
            parsed[entry.name] = parse_options(f"variant {entry.name}", entry.options, shares[entry.name])
        except ConfigError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return parsed
