"""`register`, which turns a builder into a variant, and the resolution of composed names and their options."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal

from vaezoo.errors import CompositionError, ConfigError, UnknownNameError, did_you_mean, shorten
from vaezoo.registry.architecture import Architecture, Named, named
from vaezoo.registry.options import Option, options_of, parse_options
from vaezoo.registry.registry import Registry

if TYPE_CHECKING:
    from vaezoo.core import VAE

MAX_VARIANTS = 16  # in one name; variants that compose change different parts, of which there are fewer
REFERENCE = re.compile(r"References:\s+(?P<paper>.+?) \((?P<year>\d{4})\),\s+(?P<url>\S+)")
CHOICES = frozenset({"backbone", "likelihood"})
CHANGES = frozenset({"encoder", "decoder", "prior", "objective"}) | CHOICES
SHARED = frozenset(each.name for each in fields(Architecture))
Context = Literal["required", "optional", "labels"]
Rate = Literal["closed form", "sampled", "no density"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A registered variant; `register` documents the fields."""

    name: str
    builder: Callable[..., VAE]
    changes: tuple[str, ...] = ()
    year: int = 0
    paper: str = ""
    url: str = ""
    defaults: Mapping[str, object] = field(default_factory=dict)
    permits: Mapping[str, Sequence[Named]] = field(default_factory=dict)
    context: Context = "optional"
    couples_examples: bool = False
    rate: Rate = "closed form"
    codes_follow_prior: bool = True
    yields: Mapping[str, str] = field(default_factory=dict)
    requires: str = ""
    offers: str = ""
    instead: Mapping[str, str] = field(default_factory=dict)
    acts_on: Mapping[str, str] = field(default_factory=dict)
    example: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def options(self) -> dict[str, Option]:
        """The keyword-only parameters of the builder: the hyperparameters of the paper."""
        return options_of(self.builder)

    @property
    def fixed(self) -> dict[str, list[dict[str, object]]]:
        """The backbones and likelihoods for which the variant is named, the default first, if it changes them."""
        chosen = [each for each in self.changes if each in CHOICES & set(self.defaults)]
        return {
            each: [named(one, each) for one in (self.defaults[each], *self.permits.get(each, ()))] for each in chosen
        }


variants: Registry[Variant] = Registry(
    "variant", "vaezoo.variants", "vaezoo.variants", lambda entry: isinstance(entry, Variant)
)


def list_variants(pattern: str = "*") -> list[str]:
    """Returns the names of registered variants that match a shell pattern, without importing them."""
    return [name for name in variants.names() if fnmatch.fnmatchcase(name, pattern)]


def is_variant(name: object) -> bool:
    """Returns whether a name is that of a variant, or of variants joined by "+", without importing them."""
    return isinstance(name, str) and {each.strip() for each in name.split("+")} <= {*variants.names()}


def register(
    name: str,
    *,
    changes: str | Sequence[str] = (),
    year: int = 0,
    paper: str = "",
    url: str = "",
    defaults: Mapping[str, object] | None = None,
    permits: Mapping[str, Sequence[Named]] | None = None,
    context: Context = "optional",
    couples_examples: bool = False,
    rate: Rate = "closed form",
    codes_follow_prior: bool = True,
    yields: Mapping[str, str] | None = None,
    requires: str = "",
    offers: str = "",
    instead: Mapping[str, str] | None = None,
    acts_on: Mapping[str, str] | None = None,
    example: Mapping[str, object] | None = None,
    override: bool = False,
) -> Callable[[Callable[..., VAE]], Variant]:
    """Registers the decorated builder `(base, architecture, *, options) -> VAE` as the variant `name`.

    Args:
        name: lower-case words joined by hyphens.
        changes: the parts that the builder replaces ("encoder", "decoder", "prior", "objective"); "backbone" or
            "likelihood" for a variant that is named for the one in `defaults`: others are then refused, except those in
            `permits`.
        year: year of publication. The defaults of `year`, `paper` and `url` are those of the first reference in the
            builder's docstring, `References: Authors (year), address`.
        paper: authors.
        url: address of the paper.
        defaults: default values of fields of `Architecture`; a callable is called with an architecture of the others.
        permits: other backbones or likelihoods that the name permits: {"backbone": ("conv", "other")}.
        context: "required" if the variant is conditional; "labels" if its context holds labels that may be missing.
        couples_examples: whether the loss of an example depends on the others in the batch.
        rate: how the rate is computed: in "closed form"; "sampled"; or "no density" if the posterior is a point mass
            in a continuous space, whose reported rate is -log p(z).
        codes_follow_prior: whether the objective makes the codes follow the variant's own prior. If not, samples are
            not like data, nor of the class in the context, until another prior is fitted to them.
        yields: parts that the builder replaces unless another variant does: {"prior": "codes"} leaves the prior to a
            variant that `requires` "codes", {"objective": "any"} leaves the objective to any variant that changes it.
        requires: a value of `yields` that one of the other variants in a composition must have.
        offers: a value of `yields`: parts that another variant yields under this word are taken, but not required.
        instead: name or shell pattern of variants that this one cannot be composed with, and text on why and what to
            use instead, for the error.
        acts_on: options that have an effect on one part alone, with the name of that part; they are refused where the
            part is yielded.
        example: options, and `latent` if the default is too large, of a small model that learns (1, 8, 8) images in 300
            steps, for tests and documentation.
        override: whether to replace an entry of another owner.

    Raises:
        RegistryCollisionError: the name is taken.
        ConfigError: an option has the name of a field that all variants share, or the name, `changes`, `defaults`,
            `requires` or `example` is malformed.
    """
    changed = (changes,) if isinstance(changes, str) else tuple(changes)
    _check_name(name, requires)
    _check_words(name, changes=(changed, CHANGES), defaults=(defaults or {}, SHARED), yields=(yields or {}, {*changed}))
    made = partial(Variant, name=name, changes=changed, couples_examples=couples_examples, rate=rate, requires=requires)
    made = partial(made, offers=offers, instead=instead or {}, acts_on=acts_on or {}, context=context)
    made = partial(made, codes_follow_prior=codes_follow_prior, permits=permits or {}, example=example or {})

    def decorate(builder: Callable[..., VAE]) -> Variant:
        found = REFERENCE.search(builder.__doc__ or "")
        source = found.groupdict() if found else {"year": "0", "paper": "", "url": ""}
        facts = {"year": year or int(source["year"]), "paper": paper or source["paper"], "url": url or source["url"]}
        entry = made(builder=builder, defaults=defaults or {}, yields=yields or {}, **facts)
        if clash := SHARED & (options := set(entry.options)):
            raise ConfigError(f"Variant {name!r} names an option like a shared field: {', '.join(sorted(clash))}.")
        _check_words(name, example=(entry.example, {"latent", *options}), acts_on=(entry.acts_on, options))
        _check_words(name, permits=(entry.permits, CHOICES & {*changed}))
        return variants.register(name, entry, owner=builder.__module__, override=override)

    return decorate


def _check_name(name: str, requires: str) -> None:
    if requires == "any":
        raise ConfigError(f"Variant {name!r} requires 'any', which is reserved for `yields`. Choose another word.")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ConfigError(f"Got variant name {shorten(name)}; expected lower-case letters, digits and single hyphens.")


def _check_words(name: str, **facts: tuple[Iterable[str], Set[str]]) -> None:
    """Raises ConfigError for a fact with words that are not among the known ones."""
    for what, (found, known) in facts.items():
        if set(found) - known:
            raise ConfigError(
                f"Variant {name!r}: got {what} = {shorten(found)}; expected some of {', '.join(sorted(known))}."
            )


def resolve(name: str) -> list[Variant]:
    """Returns the variants of a composed name such as "conv-vae+iwae", in order.

    Raises:
        UnknownNameError: one of them is not registered.
        CompositionError: two change the same part, one is named twice, or one lacks a variant that it requires.
    """
    if not isinstance(name, str):
        raise UnknownNameError("variant", name, variants.names(), "A name is a string.")
    if name.count("+") >= MAX_VARIANTS:
        raise CompositionError(
            f"{shorten(name)} names {name.count('+') + 1:,} variants; expected at most {MAX_VARIANTS}."
        )
    entries = [variants.get(each.strip(" ")) for each in name.split("+")]
    names = [entry.name for entry in entries]
    repeated = [each for each in names if names.count(each) > 1]
    if repeated:
        raise CompositionError(f"{shorten(name)} names {repeated[0]!r} twice. Leave one out.")
    owners: dict[str, Variant] = {}
    for entry in entries:
        for part in entry.changes:
            other = owners.get(part, entry)
            if other is not entry and not yields_part(other, entry, part) and not yields_part(entry, other, part):
                raise CompositionError(
                    f"{other.name!r} and {entry.name!r} cannot be composed: both change the {part}. "
                    f"{_hint(other, entry)}"
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
    """Returns whether `one` leaves a part that both change to `other`."""
    left = one.yields.get(part)
    return left == "any" or (left is not None and left in (other.requires, other.offers))


def _hint(one: Variant, other: Variant) -> str:
    """Returns what to use instead of two variants that cannot be composed."""
    for entry, name in ((one, other.name), (other, one.name)):
        for pattern, text in entry.instead.items():
            if fnmatch.fnmatchcase(name, pattern):
                return text
    return "Leave one out."


def build_order(entries: Iterable[Variant]) -> list[Variant]:
    """Returns variants in the order of building: first those that yield a part, last those with `requires`."""
    found = list(entries)

    def rank(entry: Variant) -> tuple[bool, bool]:
        yielding = "any" in entry.yields.values() or bool(yielded_parts(entry, found))
        return bool(entry.requires), not yielding

    return sorted(found, key=rank)


def yielded_parts(entry: Variant, entries: Iterable[Variant]) -> dict[str, str]:
    """Returns the parts that a variant yields in a composition, each with the name of the variant that takes it."""
    others = [other for other in entries if other is not entry]
    return {
        part: other.name
        for part in entry.yields
        for other in others
        if part in other.changes and yields_part(entry, other, part)
    }


def with_requirements(name: str) -> str:
    """Returns a name that can be created: "code-prior" becomes "vq-vae+code-prior".

    The oldest variant that fulfills `requires` is put in front; a name that requires nothing is returned as it is.
    """
    needs = variants.get(name).requires
    able = [each for each in map(variants.get, variants.builtin if needs else ()) if needs in each.yields.values()]
    return "+".join([*(each.name for each in sorted(able, key=lambda each: (each.year, each.name))[:1]), name])


def split_options(entries: Sequence[Variant], given: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Returns the options of each variant; `variant.option` names one that several variants have.

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
            hint = did_you_mean(option, known) or did_you_mean(option, SHARED)
            mistakes.append(f"{names}: unknown option {shorten(key)}.{hint} Options: {choice}.")
    parsed: dict[str, dict[str, object]] = {}
    for entry in entries:
        try:
            parsed[entry.name] = parse_options(f"variant {entry.name}", entry.options, shares[entry.name])
        except ConfigError as error:
            mistakes.append(str(error))
            continue
        left = yielded_parts(entry, entries)
        mistakes += [
            f"Option {option!r} of {entry.name} acts on the {part}, which is that of {left[part]} here. Leave it out."
            for option, part in entry.acts_on.items()
            if part in left and parsed[entry.name][option] != entry.options[option].default
        ]
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return parsed
