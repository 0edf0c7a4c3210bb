"""Tables and descriptions of backbones, likelihoods, samplers and data sets, with their options."""

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vaezoo.errors import printable
from vaezoo.workflows.formulas import plain
from vaezoo.workflows.tables import Record, Table

if TYPE_CHECKING:  # the registry and the data import torch
    from vaezoo.registry import Option, Registry

WIDTH = 80  # characters of a line of a description
KINDS = ("backbones", "likelihoods", "samplers", "datasets")
OF_EVERY_SET = (
    "Also folder:PATH, images on disk, table:FILE, series:FILE and torchvision:NAME. Every set of images takes size, "
    "crop, channels and background, in [data] of a recipe or as arguments of load_dataset. A choice follows the name: "
    "emoji:32."
)
OF_THE_LOADER = frozenset({"cache", "download"})  # arguments of the functions of data sets that are no options
SECTION = re.compile(r"^(?:Hyperparameters|Args|Raises):\n((?:    .*\n?)+)", re.MULTILINE)


def registry_of(kind: str) -> "Registry[Any]":  # Any: each registry has entries of its own type
    """Returns the registry of one of `KINDS`."""
    from vaezoo import data, registry

    return data.datasets if kind == "datasets" else getattr(registry, kind)


def loaded(kind: str, pattern: str = "*") -> tuple[dict[str, Any], dict[str, str]]:  # Any: see `registry_of`
    """Returns the entries of one of `KINDS` whose names match a pattern, and the reason for each that is broken."""
    entries, broken = registry_of(kind).available(pattern)
    for name, entry in [*entries.items()]:
        try:
            options(entry)
        except Exception as error:  # an annotation that cannot be evaluated, in the package of somebody else
            broken[name] = printable(f"Its options cannot be read: {type(error).__name__}: {error}", 300)
            del entries[name]
    return entries, broken


def kinds_of(name: str) -> list[str]:
    """Returns those of `KINDS` that have an entry of this name, which is not imported."""
    return [kind for kind in KINDS if name in registry_of(kind).names()]


def block_names() -> list[str]:
    """Returns the names of all backbones, likelihoods, samplers and data sets."""
    return [name for kind in KINDS for name in registry_of(kind).names()]


def block_tables(kind: str, pattern: str = "*") -> list[Table]:
    """Returns a table of the entries of one of `KINDS`: name, one sentence, options."""
    entries, broken = loaded(kind, pattern)
    rows = [(name, plain(summary(entry)), ", ".join(options(entry)) or "–") for name, entry in entries.items()]
    rows += [(name, f"broken: {reason}", "–") for name, reason in broken.items()]
    notes = ["vaezoo show NAME describes one and its options.", *([OF_EVERY_SET] if kind == "datasets" else [])]
    return [Table(headings=("name", "what it is", "options"), rows=rows, notes=notes, optional=("options",))]


def block_records(kind: str, pattern: str = "*") -> list[Record]:
    """Returns plain values of the entries of one of `KINDS`."""
    entries, broken = loaded(kind, pattern)
    found: list[Record] = [
        {
            "name": name,
            "summary": plain(summary(entry)),
            "options": {each.name: each.default for each in options(entry).values()},
        }
        for name, entry in entries.items()
    ]
    return [*found, *({"name": name, "broken": reason} for name, reason in broken.items())]


def describe_block(kind: str, name: str) -> str:
    """Returns a description of an entry of one of `KINDS`: its docstring, and its options with the values they take.

    Raises:
        UnknownNameError, RegistryCollisionError: see `Registry.get`.
    """
    registry = registry_of(kind)
    entry = registry.get(name)
    texts = option_texts(entry)
    lines = [
        f"{option_line(each)}\n{wrapped(f'      {plain(texts.get(each.name, str()))}')}".rstrip()
        for each in options(entry).values()
    ] or ["  none"]
    doc = plain(reflowed(re.sub(r"\n{3,}", "\n\n", SECTION.sub("", inspect.getdoc(entry) or "")).strip()))
    notes = [reflowed(OF_EVERY_SET)] if kind == "datasets" else []
    return "\n\n".join([f"{name}: a {registry.kind}", doc, "\n".join(["Options:", *lines]), *notes])


def block_sections(kind: str) -> str:
    """Returns Markdown with a section for each entry of one of `KINDS`: one sentence, and its options."""
    from vaezoo.registry.options import expectation

    parts = []
    for name, entry in loaded(kind)[0].items():
        texts = option_texts(entry)
        lines = [
            f"- `{each.name} = {each.default!r}` ({expectation(each.type)}): {texts.get(each.name, '')}"
            for each in options(entry).values()
        ]
        parts.append("\n\n".join([f"### {name}", summary(entry), *(["\n".join(lines)] if lines else [])]))
    return "\n\n".join(parts)


def options(entry: Callable[..., object]) -> "Mapping[str, Option]":
    """Returns the options of a registered builder or of the function of a data set."""
    from vaezoo.registry import options_of

    return {name: each for name, each in options_of(entry).items() if name not in OF_THE_LOADER}


def option_line(option: "Option") -> str:
    """Returns a line for a terminal: an option, its default, and the values that it takes."""
    from vaezoo.registry.options import expectation

    return f"  {option.name} = {option.default!r} ({expectation(option.type)})"


def summary(entry: Callable[..., object]) -> str:
    """Returns the first sentence of a docstring without "Returns"."""
    first = (inspect.getdoc(entry) or "").partition("\n")[0].removeprefix("Returns ")
    word = first.partition(" ")[0]
    return first[:1].upper() + first[1:] if word.islower() else first  # not "DSprites"


def option_texts(builder: Callable[..., object]) -> dict[str, str]:
    """Returns the description of each option, from the section `Hyperparameters:` or `Args:` of a docstring."""
    section = SECTION.search(inspect.getdoc(builder) or "")
    found = re.findall(r"^    (\w[\w, ]*): (.*(?:\n {5,}.*)*)", section[1] if section else "", re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}


def reflowed(text: str) -> str:
    """Returns a docstring with lines of at most `WIDTH` characters; formulas and indents are kept."""
    found = []
    for paragraph in text.split("\n\n"):
        items = list[str]()
        for line in paragraph.splitlines():
            if items and not items[-1].endswith(":") and len(indent(line)) >= len(indent(items[-1])):
                deeper = len(indent(line)) > len(indent(items[-1])) or not indent(line)
                items[-1:] = [f"{items[-1]} {line.lstrip()}"] if deeper else [items[-1], line]
            else:
                items.append(line)
        found.append(paragraph if "$$" in paragraph else "\n".join(map(wrapped, items)))
    return "\n\n".join(found)


def wrapped(line: str) -> str:
    """Returns a line as lines of at most `WIDTH` characters, all with its indent."""
    return textwrap.fill(line, WIDTH, subsequent_indent=indent(line), break_long_words=False, break_on_hyphens=False)


def indent(line: str) -> str:
    """Returns the spaces that a line begins with."""
    return line[: len(line) - len(line.lstrip())]
