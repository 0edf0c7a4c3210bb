"""The sections of a variant's docstring, and the BibTeX entries of its papers."""

import inspect
import re
from functools import cache
from pathlib import Path
from typing import Final

BIBLIOGRAPHY: Final = Path(__file__).parents[1] / "variants" / "references.bib"
SECTION: Final = r"^{}:(?: +(.*)|((?:\n    .*|\n(?=\n    ))+))(?:\n|\Z)"  # on one line, or indented below
ENTRY: Final = re.compile(r"^@\w+\{.*?^\}$", re.DOTALL | re.MULTILINE)
ADDRESS: Final = re.compile(r"^\s*url = \{(.*)\},?$", re.MULTILINE)
REFERENCE: Final = re.compile(r"(?:(.+): )?([^:]+ \(\d{4}\)), (\S+)")
USE: Final = re.compile(r"\s*\b(?=Use\s+it\b)")


def prose_of(doc: str) -> list[str]:
    """Returns the paragraphs of a variant's docstring between its first line and `See also:`, without its options."""
    for name in ("Hyperparameters", "See also", "References"):
        doc = re.sub(SECTION.format(name), "", doc, flags=re.MULTILINE)
    return [each.strip() for each in doc.split("\n\n")[1:] if each.strip()]


def split_use(doc: str) -> tuple[str, str]:
    """Returns the text of a variant's docstring before "Use it", and from there: when to use it, or an empty text."""
    text, *use = USE.split("\n\n".join(prose_of(doc)), maxsplit=1)
    return text, "".join(use)


def section_of(doc: str, name: str) -> str:
    """Returns the text of a section of a docstring, or an empty string."""
    found = re.search(SECTION.format(name), doc, re.MULTILINE)
    return inspect.cleandoc(found[1] or found[2]) if found else ""


def references_of(doc: str) -> list[tuple[str, str, str]]:
    """Returns (use, authors and year, address) of each reference of a docstring; the first one has no use."""
    return REFERENCE.findall(section_of(doc, "References"))


@cache
def bibliography() -> dict[str, str]:
    """Returns address -> BibTeX entry of the papers of the package's variants."""
    text = BIBLIOGRAPHY.read_text(encoding="utf-8")
    return {ADDRESS.findall(entry)[0]: entry for entry in ENTRY.findall(text)}


def citations(doc: str) -> dict[str, str]:
    """Returns address -> BibTeX entry of the references of a docstring; a comment for a paper without an entry."""
    known = bibliography()
    return {address: known.get(address, f"% {paper}, {address}") for _, paper, address in references_of(doc)}
