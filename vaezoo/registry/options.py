"""Options, the keyword-only parameters of a builder, and their validation."""

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from vaezoo.errors import ConfigError, did_you_mean, shorten

# Types of options that several variants have.
Weight = Annotated[float, Meta(ge=0, le=1e6)]
LargeWeight = Annotated[float, Meta(ge=0, le=1e9)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Temperature = Annotated[float, Meta(ge=1e-6, le=100)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Codes = Annotated[int, Meta(ge=2, le=2**24)]
Steps = Annotated[int, Meta(ge=1, le=10**9)]
Widths = Annotated[tuple[Annotated[int, Meta(ge=1, le=65536)], ...], Meta(max_length=16)]


@dataclass(frozen=True, kw_only=True)
class Option:
    """A keyword-only parameter of a builder: type with range, and default."""

    name: str
    type: Any  # a typing object such as Annotated[float, Meta(ge=0)], for which typing has no type
    default: object
    required: bool = False

    def parse(self, value: object, path: str) -> object:
        """Returns `value` converted to the option's type; raises ConfigError if it does not fit."""
        try:
            parsed = converted(plain(value), self.type)
        except (msgspec.ValidationError, OverflowError, RecursionError):
            hint = did_you_mean(value, allowed(self.type)) if isinstance(value, str) else ""
            raise ConfigError(f"{path}: expected {expectation(self.type)}; got {shorten(value)}.{hint}") from None
        if any(isinstance(item, float) and not math.isfinite(item) for item in flat(parsed)):
            raise ConfigError(f"{path}: expected finite numbers; got {shorten(value)}.")
        return parsed


def plain(value: object) -> object:
    """Returns numbers, arrays and tensors of numpy and torch as plain numbers and lists; other values unchanged."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value)  # numpy's float64 is a float too
    return cast(Any, value).tolist() if hasattr(value, "tolist") else value


def converted(value: object, kind: Any) -> object:  # Any: see Option.type
    """Returns plain values as the type `kind`, in which a whole float such as 1e2 is also an integer.

    Raises:
        msgspec.ValidationError: they do not fit.
    """
    try:
        return cast(object, msgspec.convert(value, type=kind, strict=True))
    except msgspec.ValidationError:
        with suppress(msgspec.ValidationError):
            return cast(object, msgspec.convert(with_integers(value), type=kind, strict=True))
        raise


def with_integers(value: object) -> object:
    """Returns plain values with whole floats as integers."""
    if isinstance(value, Mapping):
        return {key: with_integers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [with_integers(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def flat(value: object) -> list[object]:
    """Returns the leaves of nested lists, tuples and mappings."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else None
    return [value] if inner is None else [item for each in inner for item in flat(each)]


WORDS = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    dict: ("a table", "tables"),
    list: ("a list", "lists"),
    type(None): ("none", "none"),
}


def expectation(kind: object, plural: bool = False) -> str:
    """Returns the values that a type allows in words, such as "a whole number from 1 to 64" or "one of 3, 4, 5"."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        limits = next((each for each in inner if isinstance(each, Meta)), Meta())
        if typing.get_origin(inner[0]) in (list, tuple):
            return _list(inner[0], limits, plural)
        return " ".join(filter(None, (expectation(inner[0], plural), _range(limits))))
    if origin is typing.Literal:
        return repr(inner[0]) if len(inner) == 1 else f"one of {', '.join(map(str, inner))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(expectation(each, plural) for each in inner)
    if origin in (list, tuple):
        return _list(kind, Meta(), plural)
    one, several = WORDS.get(cast(Any, origin or kind), (str(kind), str(kind)))
    return several if plural else one


def _list(kind: object, limits: Meta, plural: bool) -> str:
    least, most = limits.min_length or 0, limits.max_length
    count = (
        f"at least {least} " * bool(least) if most is None else f"{least} to {most} " if least != most else f"{most} "
    )
    return f"{WORDS[list][plural]} of {count}{expectation(typing.get_args(kind)[0], plural=True)}"


def _range(limits: Meta) -> str:
    ge, gt, le, lt = (each if each is None else _figure(each) for each in (limits.ge, limits.gt, limits.le, limits.lt))
    if ge is not None and le is not None:
        return f"from {ge} to {le}"
    ends = {"of at least": ge, "above": gt, "of at most": le, "below": lt}
    return " and ".join(f"{word} {end}" for word, end in ends.items() if end is not None)


def _figure(number: float) -> str:
    whole = number == int(number) and abs(number) < 1e16
    return f"{int(number):,}" if whole else f"{number:g}"


def allowed(kind: object) -> list[str]:
    """Returns the texts that a type allows by name."""
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return [each for each in inner if isinstance(each, str)]
    return [text for each in inner for text in allowed(each)]


@cache
def options_of(builder: Callable[..., object]) -> dict[str, Option]:
    """Returns the keyword-only parameters of a builder, cached since resolving annotations is slow."""
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
    """Returns all options: the values of `given`, validated, and defaults for the others.

    Raises:
        ConfigError: all mistakes at once: unknown names, wrong types, values out of range, missing options.
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
    # Defaults are included, so that a saved config keeps its meaning when they change.
    return {name: parsed.get(name, option.default) for name, option in known.items()}
