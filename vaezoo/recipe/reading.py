"""Lists, locates and reads recipes: from a name, a file or a mapping. Imports torch only to validate one."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from vaezoo.errors import RecipeError, UnknownNameError, printable
from vaezoo.recipe.overrides import apply_override, split_override
from vaezoo.recipe.schema import Published, Recipe
from vaezoo.recipe.validation import build, build_published, plain

PACKAGE = Path(__file__).parents[1]
OF_A_RUN = "recipe.json"  # in the folder of a run
LARGEST = 2**16  # bytes of a file
LONGEST_LINE = 2**12  # bytes; the time of tomllib is quadratic in the dots of a key


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
    """Returns the file of a recipe by name, the path itself if it ends in `.toml`, or the recipe of a run.

    A run is given by its folder, or by `recipe.json` in it.

    Raises:
        UnknownNameError: there is no such name or file.
    """
    known = list_recipes()
    if isinstance(name, str) and name in known:
        return known[name]
    from vaezoo.registry import is_variant  # imports torch

    hint = "For your own recipe, pass a path that ends in .toml; for a run its folder with a slash, such as ./mine."
    if is_variant(name):
        known = {}  # not listed where the name is that of something else
        hint = (
            f"{name!r} is a variant: name its data (--data NAME), write a recipe for it, or pass "
            f"{{'variant': {name!r}, 'data': …}}."
        )
    if isinstance(name, Path) or (isinstance(name, str) and (name.endswith((".toml", ".json")) or "/" in name)):
        hint = "There is no such file, and no run in a folder of this name."
        try:
            for path in (Path(name), Path(name) / OF_A_RUN):
                if path.suffix in (".toml", ".json") and path.is_file():
                    return path
        except (OSError, ValueError) as error:  # not a valid file name
            hint = f"{error.strerror if isinstance(error, OSError) else error}."
    raise UnknownNameError("recipe", str(name), known, hint)


def read_recipe(source: str | Path | Mapping[str, object], overrides: Sequence[str] = (), **changes: object) -> Recipe:
    """Returns the validated recipe of a name, a TOML file or a mapping, with overrides applied.

    Args:
        source: a recipe's name, a path that ends in `.toml`, the folder of a run or its `recipe.json`, or the tables
            (which may have a `name`); or the name of a variant, if an override sets `data.name` (see `of_variant`).
        overrides: `key=value` strings; the key dotted ("train.steps", "stage.0.steps") or bare and unique ("steps"),
            the value as in TOML. "train.steps" applies to every stage.
        **changes: overrides as keywords, such as `steps=1000`.

    Raises:
        UnknownNameError: there is no such recipe.
        RecipeError: all mistakes at once, each with its path.
    """
    texts = [overrides] if isinstance(overrides, str) else overrides
    if isinstance(source, Mapping):
        name, given = printable(str(source.get("name") or "")), {key: source[key] for key in source if key != "name"}
    else:
        names_data = "data.name" in changes or any(text.startswith("data.name=") for text in texts)
        own = of_variant(source) if names_data and isinstance(source, str) else None
        name, given = read_toml(find_recipe(source)) if own is None else (str(source), own)
    mistakes: list[str] = []
    tables = cast("dict[str, object]", plain(given, "", mistakes) or {})
    if not mistakes:
        pairs = [split_override(text, mistakes) for text in texts]
        for key, value in [*(pair for pair in pairs if pair), *changes.items()]:
            apply_override(tables, key, plain(value, key, mistakes), mistakes)
    recipe = build(name, tables, mistakes)
    if mistakes or recipe is None:
        lines = "\n".join(f"  {number}. {text}" for number, text in enumerate(mistakes, 1))
        whose = f"Recipe {name!r}" if name else "The recipe"
        raise RecipeError(f"{whose} has {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}:\n{lines}")
    return recipe


def of_variant(name: str) -> dict[str, object] | None:
    """Returns a recipe of a variant, 5,000 steps, to which its data are to be added; None unless it is one's name.

    A recipe of the same name comes first.
    """
    if name in list_recipes():
        return None
    from vaezoo.registry import is_variant, resolve  # imports torch

    if not is_variant(name):
        return None
    context = any(entry.context != "optional" for entry in resolve(name))
    return {"variant": name, "data": {"context": context}, "train": {"steps": 5_000, "schedule": "cosine"}}


def published_metrics(name: str) -> Published | None:
    """Returns the published metrics in the recipe of a pretrained model, without reading the rest of it."""
    path = list_recipes().get(name)
    return None if path is None else build_published(read_toml(path)[1], [])


def read_toml(path: Path) -> tuple[str, dict[str, object]]:
    """Returns a recipe's name and its tables; raises RecipeError for invalid TOML, or JSON of a run."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if path.suffix != ".json":
            return printable(path.stem), parse_toml(data)
        tables = parse_run(data)
        return printable(str(tables.pop("name", ""))), tables
    except (OSError, ValueError, RecursionError) as error:
        kind = "the recipe of a run" if path.suffix == ".json" else "TOML"
        raise RecipeError(f"Recipe {printable(path.name)} cannot be read as {kind}: {error}.") from None


def parse_run(data: bytes) -> dict[str, object]:
    """Returns the tables of a run's `recipe.json`; raises ValueError or RecursionError if they are invalid."""
    if len(data) > LARGEST:
        raise ValueError(f"it is longer than {LARGEST:,} bytes")
    tables = json.loads(data)
    if not isinstance(tables, dict):
        raise ValueError("it holds no table")
    return tables


def parse_toml(data: bytes) -> dict[str, object]:
    """Returns the tables of TOML bytes; raises ValueError or RecursionError if they are invalid or too large."""
    if len(data) > LARGEST:
        raise ValueError(f"it is longer than {LARGEST:,} bytes")
    if max(map(len, data.splitlines()), default=0) > LONGEST_LINE:
        raise ValueError(f"a line is longer than {LONGEST_LINE:,} bytes")
    return tomllib.loads(data.decode("utf-8"))
