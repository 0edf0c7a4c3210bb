"""Differences between two recipes."""

import json
from collections.abc import Iterator

from msgspec.structs import replace

from vaezoo.errors import shorten
from vaezoo.recipe.schema import Recipe


def changes(then: Recipe, now: Recipe) -> list[str]:
    """Returns a line for each setting that differs, except the name: `train.steps: 24 there, 25 now`."""
    there, here = (
        {key: shown(value) for key, value in leaves(recipe.as_dict() | {"name": ""}, "")} for recipe in (then, now)
    )
    rows = [(key, there.get(key, "absent"), here.get(key, "absent")) for key in sorted(there.keys() | here.keys())]
    return [f"{key}: {before} there, {after} now" for key, before, after in rows if before != after]


def differ_in_length_only(then: Recipe, now: Recipe) -> bool:
    """Returns whether two recipes are equal except for their names and the length of their last stage."""
    first, second = (
        replace(each, stages=(*each.stages[:-1], replace(each.stages[-1], steps=0, epochs=0))).settings
        for each in (then, now)
    )
    return first == second


def adds_stages(then: Recipe, now: Recipe) -> bool:
    """Returns whether the second recipe is the first one with further stages, except for their names."""
    count = len(then.stages)
    return len(now.stages) > count and replace(now, stages=now.stages[:count]).settings == then.settings


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
    text = shorten(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
