"""From a name, a file or a mapping to a recipe."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from vaezoo.errors import RecipeError
from vaezoo.recipe.locate import find_recipe
from vaezoo.recipe.overrides import apply_override, split_override
from vaezoo.recipe.schema import Recipe
from vaezoo.recipe.validation import build, plain

__all__ = ["read_recipe"]

LARGEST = 2**16  # bytes: anything longer is no recipe
LONGEST_LINE = 2**12  # bytes: tomllib takes time with the square of the dots in a key


def read_recipe(source: str | Path | Mapping[str, object], overrides: Sequence[str] = (), **changes: object) -> Recipe:
    """Returns the recipe of a name, a TOML file or a mapping, with overrides applied and everything checked.

    Args:
        source: a recipe's name, a path that ends in `.toml`, or the tables themselves (which may have a `name`).
        overrides: `key=value` strings; the key dotted ("train.steps", "stage.0.steps") or bare and unique ("steps"),
            the value as in TOML. "train.steps" sets it in every stage.
        **changes: the same by keyword; `steps=1000`.

    Raises:
        UnknownNameError: no such recipe.
        RecipeError: all mistakes at once, each with its path.
    """
    name, given = ("", source) if isinstance(source, Mapping) else read_toml(find_recipe(source))
    mistakes: list[str] = []
    tables = cast("dict[str, object]", plain(given, "", mistakes) or {})
    if isinstance(source, Mapping):
        name = str(tables.pop("name", ""))
    if not mistakes:
        pairs = [split_override(text, mistakes) for text in overrides]
        for key, value in [*(pair for pair in pairs if pair), *changes.items()]:
            apply_override(tables, key, plain(value, key, mistakes), mistakes)
    recipe = build(name, tables, mistakes)
    if mistakes or recipe is None:
        lines = "\n".join(f"  {number}. {text}" for number, text in enumerate(mistakes, 1))
        whose = f"Recipe {name!r}" if name else "The recipe"
        raise RecipeError(f"{whose} has {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}:\n{lines}")
    return recipe


def read_toml(path: Path) -> tuple[str, Mapping[str, object]]:
    """Returns a recipe's name and its tables; raises RecipeError for what is no TOML."""
    try:
        with open(path, "rb") as file:
            return path.stem, parse_toml(file.read(LARGEST + 1))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(f"Recipe {path.name} cannot be read as TOML: {error}.") from None


def parse_toml(data: bytes) -> dict[str, object]:
    """Returns the tables of TOML bytes; raises ValueError or RecursionError for what is none, or too large."""
    if len(data) > LARGEST:
        raise ValueError(f"it is longer than {LARGEST:,} bytes")
    if max(map(len, data.splitlines()), default=0) > LONGEST_LINE:
        raise ValueError(f"a line is longer than {LONGEST_LINE:,} bytes")
    return tomllib.loads(data.decode("utf-8"))
