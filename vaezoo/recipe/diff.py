"""What differs between two recipes."""

from __future__ import annotations

import json
from collections.abc import Iterator

from msgspec.structs import replace

from vaezoo.errors import shorten
from vaezoo.recipe.schema import Recipe

__all__ = ["adds_stages", "changes", "differ_in_length_only"]

ABSENT = object()


def changes(then: Recipe, now: Recipe) -> list[str]:
    """Returns a line for each setting that differs, but for the name: `train.steps: 24 there, 25 now`."""
    there, here = (dict(leaves(recipe.as_dict() | {"name": ""}, "")) for recipe in (then, now))
    return [
        f"{key}: {said(there.get(key, ABSENT))} there, {said(here.get(key, ABSENT))} now"
        for key in sorted(there.keys() | here.keys())
        if said(there.get(key, ABSENT)) != said(here.get(key, ABSENT))
    ]


def differ_in_length_only(then: Recipe, now: Recipe) -> bool:
    """Says whether two recipes are equal but for the steps or epochs of their last stage, and their names."""
    return open_ended(then).settings == open_ended(now).settings


def adds_stages(then: Recipe, now: Recipe) -> bool:
    """Says whether the second recipe is the first, whatever their names, with further stages after its last."""
    count = len(then.stages)
    return len(now.stages) > count and replace(now, stages=now.stages[:count]).settings == then.settings


def open_ended(recipe: Recipe) -> Recipe:
    """Returns a recipe without the length of its last stage."""
    return replace(recipe, stages=(*recipe.stages[:-1], replace(recipe.stages[-1], steps=0, epochs=0)))


def leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Yields the dotted key and the value of everything in nested tables; a list of tables counts from 0."""
    tables = isinstance(value, list) and value and all(isinstance(each, dict) for each in value)
    inner = dict(enumerate(value)) if isinstance(value, list) and tables else value
    if not isinstance(inner, dict) or not inner:
        yield path, value
        return
    for key, each in inner.items():
        yield from leaves(each, f"{path}.{key}" if path else str(key))


def said(value: object) -> str:
    """Returns a setting as it is shown."""
    if value is ABSENT:
        return "absent"
    return shorten(value) if isinstance(value, str) else shorten_text(json.dumps(value))


def shorten_text(text: str, limit: int = 80) -> str:
    """Returns `text`, cut to `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
