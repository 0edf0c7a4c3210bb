"""Differences between two recipes."""

import json
from collections.abc import Iterator

from msgspec.structs import replace

from vaezoo.errors import shorten
from vaezoo.recipe.schema import Recipe, Stage

#: settings of a stage that a run may change on its way: they affect only the steps that remain
COURSE = (
    "learning_rate",
    "final_learning_rate",
    "learning_rates",
    "schedule",
    "warmup",
    "clip",
    "patience",
    "parallel",
)


def changes(then: Recipe, now: Recipe) -> list[str]:
    """Returns a line for each setting that differs, except the name: `train.steps: 24 there, 25 now`."""
    there, here = (
        {key: shown(value) for key, value in leaves(recipe.as_dict() | {"name": ""}, "")} for recipe in (then, now)
    )
    rows = [(key, there.get(key, "absent"), here.get(key, "absent")) for key in sorted(there.keys() | here.keys())]
    return [f"{key}: {before} there, {after} now" for key, before, after in rows if before != after]


def course_changes(then: Recipe, now: Recipe) -> list[str]:
    """Returns a line, as `changes` does, for each setting in `COURSE` that differs in a stage of both recipes."""
    shared = replace(now, stages=now.stages[: len(then.stages)])
    return [text for text in changes(then, shared) if not {*COURSE}.isdisjoint(text.partition(":")[0].split("."))]


def same_course(recipe: Recipe) -> Recipe:
    """Returns a recipe with the defaults of all settings in `COURSE`."""
    plain = Stage()
    course = {key: getattr(plain, key) for key in COURSE}
    return replace(recipe, stages=tuple(replace(stage, **course) for stage in recipe.stages))


def differ_in_length_only(then: Recipe, now: Recipe) -> bool:
    """Returns whether two recipes are equal except for their names, `COURSE`, and the length of their last stage."""
    first, second = (
        replace(each, stages=(*each.stages[:-1], replace(each.stages[-1], steps=0, epochs=0))).settings
        for each in (same_course(then), same_course(now))
    )
    return first == second


def adds_stages(then: Recipe, now: Recipe) -> bool:
    """Returns whether the second recipe is the first one with further stages, except for names and `COURSE`."""
    count = len(then.stages)
    shared = replace(now, stages=now.stages[:count])
    return len(now.stages) > count and same_course(shared).settings == same_course(then).settings


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
