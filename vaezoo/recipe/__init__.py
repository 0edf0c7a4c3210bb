"""Recipes: TOML in, a validated record out.

A recipe names a variant, its options, an architecture, a data set and how to train. Unknown keys are errors; all
mistakes are reported at once, each with its path and the closest known name. `key=value` overrides take a dotted key,
or a bare one that is unique.
"""

from vaezoo.recipe.diff import adds_stages, changes, differ_in_length_only
from vaezoo.recipe.locate import find_recipe, list_recipes
from vaezoo.recipe.reading import read_recipe
from vaezoo.recipe.schema import ArchitectureTable, DataTable, Recipe, Stage

__all__ = [
    "ArchitectureTable",
    "DataTable",
    "Recipe",
    "Stage",
    "adds_stages",
    "changes",
    "differ_in_length_only",
    "find_recipe",
    "list_recipes",
    "read_recipe",
]
