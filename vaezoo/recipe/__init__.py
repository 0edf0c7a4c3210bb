"""Recipes: TOML files as validated records.

A recipe states a variant, its options, an architecture, a data set and how to train. Unknown keys are errors; all
mistakes are reported at once, each with its path and the closest known name.
"""

from vaezoo.recipe.diff import COURSE, adds_stages, changes, course_changes, differ_in_length_only
from vaezoo.recipe.reading import OF_A_RUN, find_recipe, list_recipes, published_metrics, read_recipe
from vaezoo.recipe.schema import ArchitectureTable, DataTable, Published, Recipe, Stage, Teacher

__all__ = [
    "COURSE",
    "OF_A_RUN",
    "ArchitectureTable",
    "DataTable",
    "Published",
    "Recipe",
    "Stage",
    "Teacher",
    "adds_stages",
    "changes",
    "course_changes",
    "differ_in_length_only",
    "find_recipe",
    "list_recipes",
    "published_metrics",
    "read_recipe",
]
