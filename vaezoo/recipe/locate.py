"""Lists and locates recipe files. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from vaezoo.errors import UnknownNameError

PACKAGE = Path(__file__).parents[1]


def places() -> list[Path]:
    """Returns the folders of recipes: inside an installed package, or beside the package in a checkout."""
    beside = PACKAGE.parent / "recipes"
    # Beside an installed package, a folder of this name belongs to another project.
    checkout = (PACKAGE.parent / "pyproject.toml").is_file()
    return [folder for folder in (PACKAGE / "recipes", *([beside] if checkout else [])) if folder.is_dir()]


def list_recipes() -> dict[str, Path]:
    """Returns the recipes of vaezoo by name."""
    return {path.stem: path for folder in reversed(places()) for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str | Path) -> Path:
    """Returns the file of a recipe by name, or the path itself if it ends in `.toml`.

    Raises:
        UnknownNameError: there is no such name or file.
    """
    known = list_recipes()
    if isinstance(name, str) and name in known:
        return known[name]
    hint = "For your own recipe, pass a path that ends in .toml."
    if isinstance(name, str | Path) and str(name).endswith(".toml"):
        hint = "There is no such file."
        try:
            if Path(name).is_file():
                return Path(name)
        except (OSError, ValueError) as error:  # not a valid file name
            hint = f"{error.strerror if isinstance(error, OSError) else error}."
    raise UnknownNameError("recipe", str(name), known, hint)
