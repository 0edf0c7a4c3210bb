"""Where recipes lie, and which there are. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from vaezoo.errors import UnknownNameError

__all__ = ["find_recipe", "list_recipes"]

PACKAGE = Path(__file__).parents[1]


def places() -> list[Path]:
    """Returns where recipes lie: inside an installed package, or beside the package in a checkout."""
    beside = PACKAGE.parent / "recipes"
    # Beside an installed package, a folder of this name is somebody else's.
    checkout = (PACKAGE.parent / "pyproject.toml").is_file()
    return [folder for folder in (PACKAGE / "recipes", *([beside] if checkout else [])) if folder.is_dir()]


def list_recipes() -> dict[str, Path]:
    """Returns the recipes that come with vaezoo, by name."""
    return {path.stem: path for folder in reversed(places()) for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str | Path) -> Path:
    """Returns the file of a recipe's name, or the path itself when it ends in `.toml`.

    Raises:
        UnknownNameError: no such name or file.
    """
    known = list_recipes()
    if isinstance(name, str) and name in known:
        return known[name]
    hint = "A recipe of your own is a path that ends in .toml."
    if isinstance(name, str | Path) and str(name).endswith(".toml"):
        hint = "There is no such file."
        try:
            if Path(name).is_file():
                return Path(name)
        except (OSError, ValueError) as error:  # a name that no file can have
            hint = f"{error.strerror if isinstance(error, OSError) else error}."
    raise UnknownNameError("recipe", str(name), known, hint)
