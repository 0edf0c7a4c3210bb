"""Differences between two recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from msgspec.structs import replace

from vaezoo.errors import shorten
from vaezoo.recipe.schema import Recipe

ABSENT = object()


def changes(then: Recipe, now: Recipe) -> list[str]:
    """Returns a line for each setting that differs, except the name: `train.steps: 24 there, 25 now`."""
    there, here = (dict(leaves(recipe.as_dict() | {"name": ""}, "")) for recipe in (then, now))
    return [
        f"{key}: {shown(there.get(key, ABSENT))} there, {shown(here.get(key, ABSENT))} now"
        for key in sorted(there.keys() | here.keys())
        if shown(there.get(key, ABSENT)) != shown(here.get(key, ABSENT))
    ]


def differ_in_length_only(then: Recipe, now: Recipe) -> bool:
    """Returns whether two recipes are equal except for their names and the length of their last stage."""
    return open_ended(then).settings == open_ended(now).settings


def adds_stages(then: Recipe, now: Recipe) -> bool:
    """Returns whether the second recipe is the first one with further stages, except for their names."""
    count = len(then.stages)
    return len(now.stages) > count and replace(now, stages=now.stages[:count]).settings == then.settings


def open_ended(recipe: Recipe) -> Recipe:
    """Returns a recipe without the length of its last stage."""
    return replace(recipe, stages=(*recipe.stages[:-1], replace(recipe.stages[-1], steps=0, epochs=0)))


def leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Yields the dotted key and the value of each leaf of nested tables; tables in a list are numbered from 0."""
    tables = isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
    inner = dict(enumerate(value)) if isinstance(value, list) and tables else value
    if not isinstance(inner, dict) or not inner:
        yield path, value
        return
    for key, each in inner.items():
        yield from leaves(each, f"{path}.{key}" if path else str(key))


def shown(value: object) -> str:
    """Returns a setting as text."""
    if value is ABSENT:
        return "absent"
    text = shorten(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
