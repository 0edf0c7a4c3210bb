"""Converts docstrings, which have code and formulas as in Markdown, to reStructuredText for autodoc."""

import re

from sphinx.application import Sphinx

TOKEN = re.compile(
    r"(?P<display>\$\$.+?\$\$)|(?P<formula>\$[^$\n]+(?:\n[^$\n]+)?\$)|(?P<code>`[^`]+`)|(?P<sign>[*|_\\])", re.DOTALL
)
COLON = "\ue000"  # a private character: napoleon reads "Of an encoder: whether …" of an attribute as a type


def converted(text: str) -> str:
    """Returns a docstring with formulas as roles and directives, code as literals, and no other markup."""
    return TOKEN.sub(replacement, text)


def replacement(found: re.Match[str]) -> str:
    """Returns reStructuredText for a formula, code, or a character that would be markup."""
    if found["display"]:
        return f".. math:: {' '.join(found['display'].strip('$').split())}\n"
    if found["formula"]:
        return f":math:`{' '.join(found['formula'].strip('$').split())}`"
    if found["code"]:
        following = found.string[found.end() : found.end() + 1]
        return f"`{found['code']}`" + "\\ " * following.isalnum()  # the end of a literal, as in `x`s
    return f"\\{found['sign']}"


def convert(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Converts the lines of a docstring in place, before napoleon reads its sections."""
    text = converted("\n".join(lines))
    lines[:] = (text.replace(":", COLON) if what in ("attribute", "property") else text).splitlines()


def restore(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Restores the colons of attributes' docstrings, after napoleon has read them."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connects the extension."""
    app.connect("autodoc-process-docstring", convert, priority=100)
    app.connect("autodoc-process-docstring", restore, priority=900)
    return {"parallel_read_safe": True}
