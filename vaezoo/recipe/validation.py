"""Validation of the tables of a recipe: all mistakes, each with its path."""

import math
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from vaezoo.errors import ConfigError, VaezooError, did_you_mean, shorten
from vaezoo.recipe.schema import ArchitectureTable, DataName, DataTable, Published, Recipe, Stage, Teacher, fields_of
from vaezoo.registry.options import allowed, converted, expectation

if TYPE_CHECKING:
    from vaezoo.registry import Variant

S = TypeVar("S", bound=msgspec.Struct)
DEEPEST = 16  # tables inside tables
LONGEST = 4096  # characters of a string
WIDEST = 256  # keys of a table, items of a list
HEAD = ("variant", "seed", "init", "options")
KEYS = (*HEAD, "architecture", "data", "train", "stage", "teacher", "published")


def plain(value: object, path: str, mistakes: list[str], depth: int = 0) -> object:
    """Returns `value` as tables, lists, strings and finite numbers; others are mistakes. None values are dropped."""
    if depth > DEEPEST:
        mistakes.append(f"{path[:40]}…: tables are nested more than {DEEPEST} deep.")
        return None
    if isinstance(value, Mapping | list | tuple) and len(value) > WIDEST:
        mistakes.append(f"{path or 'recipe'}: expected at most {WIDEST} keys or items; got {len(value):,}.")
        return None
    if isinstance(value, Mapping):
        return {
            str(key): plain(each, f"{path}.{key}" if path else str(key), mistakes, depth + 1)
            for key, each in value.items()
            if each is not None
        }
    if isinstance(value, list | tuple):
        return [plain(each, f"{path}[{index}]", mistakes, depth + 1) for index, each in enumerate(value)]
    return scalar(value, path, mistakes)


def scalar(value: object, path: str, mistakes: list[str]) -> object:
    """Returns a string, finite number or boolean as the plain type; other values are mistakes."""
    if not isinstance(value, int | float | str):
        from vaezoo.core import as_number  # imports torch

        value = as_number(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral) and abs(int(value)) < 2**63:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and len(value) <= LONGEST and value.isprintable():
        return value
    got = f"a number of {int(value).bit_length()} bits" if isinstance(value, Integral) else shorten(value)
    mistakes.append(
        f"{path}: expected a finite number of at most 63 bits, printable text of at most {LONGEST} characters, true or "
        f"false; got {got}."
    )
    return None


def has_mistake(path: str, mistakes: Sequence[str]) -> bool:
    """Returns whether there is a mistake at `path` or inside it."""
    return any(each.startswith((f"{path}:", f"{path}.", f"{path}[")) for each in mistakes)


def build(name: str, tables: Mapping[str, object], mistakes: list[str]) -> Recipe | None:
    """Returns the recipe of plain tables; appends every mistake to `mistakes`."""
    for key in tables:
        if key not in KEYS:
            mistakes.append(f"{shorten(key)}: unknown key.{did_you_mean(key, KEYS)} Keys: {', '.join(KEYS)}.")
    types = fields_of(Recipe)
    head = {key: convert(tables[key], types[key].type, key, mistakes) for key in HEAD if key in tables}
    if "variant" not in tables:
        mistakes.append("variant: missing. Name one, such as variant = 'vae'.")
    data = table(DataTable, tables.get("data", {}), "data", mistakes)
    architecture = table(ArchitectureTable, tables.get("architecture", {}), "architecture", mistakes)
    mistakes += image_mistakes(data)
    stages = build_stages(tables, mistakes)
    teacher = table(Teacher, tables["teacher"], "teacher", mistakes) if "teacher" in tables else None
    published = build_published(tables, mistakes)
    check_names(head, architecture, data, stages, mistakes)
    if mistakes or data is None or architecture is None:
        return None
    fields: dict[str, typing.Any] = head  # Any: the fields of Recipe, each of its own type
    every = tuple(stages.values())
    return Recipe(
        name=name,
        data=data,
        architecture=architecture,
        stages=every,
        teacher=teacher,
        published=published,
        **fields,
    )


def image_mistakes(data: DataTable | None) -> list[str]:
    """Returns the mistakes in `[data]` about splits and images: unknown colors, a crop without a size."""
    if data is not None and data.split == "all" and data.validation == "split":
        return [
            "data.validation: the validation split is part of split = 'all'. Set a number of images, or leave it out."
        ]
    if data is None or (data.background is None and data.crop == "center"):
        return []
    from vaezoo.data import ImageOptions  # imports torch

    try:
        ImageOptions.among(msgspec.structs.asdict(data))
    except ConfigError as error:
        return [f"data.{'background' if 'background' in str(error) else 'crop'}: {error}"]
    return []


def build_published(tables: Mapping[str, object], mistakes: list[str]) -> Published | None:
    """Returns `[published]`, with the data of the recipe, or None; appends every mistake to `mistakes`."""
    given, data = tables.get("published"), tables.get("data")
    if not isinstance(given, Mapping):
        if given is not None:
            mistakes.append(f"published: expected a table; got {shorten(given)}.")
        return None
    chosen = data if isinstance(data, Mapping) else {}
    known = {"data": str(chosen.get("name", "")), "binarize": str(chosen.get("binarize", "none"))}
    texts = {key: given[key] for key in fields_of(Published) if key in given and key != "metrics"}
    metrics = {key: value for key, value in given.items() if key not in texts}
    return table(Published, {**known, **texts, "metrics": metrics}, "published", mistakes)


def table(struct: type[S], given: object, path: str, mistakes: list[str]) -> S | None:
    """Returns `given` as `struct`; appends every mistake in it to `mistakes` with its path."""
    if not isinstance(given, Mapping):
        mistakes.append(f"{path}: expected a table; got {shorten(given)}.")
        return None
    known = fields_of(struct)
    values: dict[str, object] = {}
    for key, value in given.items():
        if key in known:
            values[key] = convert(value, known[key].type, f"{path}.{key}", mistakes)
        else:
            mistakes.append(f"{path}.{key}: unknown key.{did_you_mean(key, known)} Keys: {', '.join(known)}.")
    mistakes += [f"{path}.{key}: missing." for key, field in known.items() if field.required and key not in given]
    return None if has_mistake(path, mistakes) else struct(**values)


def convert(value: object, kind: object, path: str, mistakes: list[str]) -> object:
    """Returns `value` as the type `kind`; appends what is wrong with it to `mistakes`, unless `plain` did."""
    if has_mistake(path, mistakes):
        return None
    try:
        return converted(value, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        choices = allowed(kind)
        if choices and "Invalid enum value" in text:
            text = f"expected {expectation(kind)}"
            if isinstance(value, list):
                value = next((each for each in value if each not in choices), "")
                text = f"expected one of {', '.join(choices)}"
            hint = did_you_mean(value, choices)
        else:
            text, hint = text.partition(", got `")[0].replace("object", "table").replace("array", "list"), ""
            text = text.replace("`int`", "a whole number")
        if kind is DataName:
            text, hint = "expected a data set's name, torchvision:NAME, folder:PATH, table:FILE or series:FILE", ""
        mistakes.append(f"{path}{place.rstrip('`')}: {text[0].lower()}{text[1:]}; got {shorten(value)}.{hint}")
        return None


def build_stages(tables: Mapping[str, object], mistakes: list[str]) -> dict[str, Stage]:
    """Returns the valid stages of `[train]` or `[[stage]]` by their path."""
    if ("train" in tables) == ("stage" in tables):
        got = "both" if "train" in tables else "neither"
        mistakes.append(f"train: expected one [train] table or several [[stage]] tables; got {got}.")
        return {}
    given = tables.get("stage", [tables.get("train")])
    if not isinstance(given, list) or not given:
        mistakes.append(f"stage: expected [[stage]] tables; got {shorten(given)}.")
        return {}
    paths = ["train"] if "train" in tables else [f"stage[{number}]" for number in range(len(given))]
    found = {path: table(Stage, each, path, mistakes) for path, each in zip(paths, given, strict=True)}
    stages = {path: stage for path, stage in found.items() if stage is not None}
    for path, stage in stages.items():
        mistakes += stage_mistakes(path, stage)
    return stages


def stage_mistakes(path: str, stage: Stage) -> list[str]:
    """Returns the mistakes in combinations of keys."""
    found = []
    if bool(stage.steps) == bool(stage.epochs):
        found.append(f"{path}: set one of steps and epochs; got steps = {stage.steps}, epochs = {stage.epochs}.")
    if stage.rate_cycles and not stage.rate_warmup:
        found.append(f"{path}.rate_cycles: needs rate_warmup, the steps of one cycle.")
    if stage.final_learning_rate and stage.schedule == "constant":
        found.append(f"{path}.final_learning_rate: has no effect with a constant schedule. Set schedule = 'cosine'.")
    unsupported = [key for key in ("compile", "channels_last") if getattr(stage, key)]
    if stage.parallel == "fsdp" and unsupported:
        found.append(
            f"{path}.parallel: 'fsdp' does not support {' and '.join(unsupported)}. Leave that out, or set 'ddp'."
        )
    return found


def check_names(
    head: Mapping[str, object],
    architecture: ArchitectureTable | None,
    data: DataTable | None,
    stages: Mapping[str, Stage],
    mistakes: list[str],
) -> None:
    """Validates the variant, its options, the backbone and the likelihood with their registries."""
    from vaezoo import registry  # imports torch

    for kind in ("backbone", "likelihood"):
        choice = getattr(architecture, kind, None)
        if choice is not None:
            names = registry.backbones if kind == "backbone" else registry.likelihoods
            given = choice if isinstance(choice, dict) else {}
            mistakes += option_errors(f"architecture.{kind}", given, partial(registry.check_named, names, choice))
    if not isinstance(head.get("variant"), str):
        return
    try:
        entries = registry.resolve(str(head["variant"]))
    except VaezooError as error:
        mistakes.append(f"variant: {error}")
        return
    own = cast("dict[str, object]", head.get("options") or {})
    mistakes += option_errors("options", own, partial(registry.split_options, entries, own))
    for path, stage in stages.items():
        if stage.options:
            both = {**own, **stage.options}
            found = option_errors(f"{path}.options", stage.options, partial(registry.split_options, entries, both))
            mistakes += [each for each in found if not any(map(each.endswith, mistakes))]
            mistakes += unstaged(entries, stage.options, path)
    if data is not None and all(entry.context != "labels" for entry in entries):
        mistakes += [
            f"data.{key}: {head['variant']!r} does not support unlabeled examples. Leave it out, or use m2-vae."
            for key in ("labels", "labelled_share")
            if getattr(data, key)
        ]
    needy = [entry.name for entry in entries if entry.context != "optional"]
    if needy and data is not None and not data.context:
        mistakes.append(f"data.context: {needy[0]!r} needs a context. Set data.context = true.")


def option_errors(path: str, given: Mapping[str, object], check: Callable[[], object]) -> list[str]:
    """Returns the lines of the error that `check` raises, each with the path of its key."""
    try:
        check()
    except VaezooError as error:
        return [f"{path}{subject(given, line)}: {line}" for line in str(error).splitlines()]
    return []


def subject(given: Mapping[str, object], line: str) -> str:
    """Returns `.KEY` for the key that a line names first, or an empty string."""
    places = {line.find(text): f".{key}" for key in given for text in (f" {key}:", repr(key)) if text in line}
    return places[min(places)] if places else ""


def unstaged(entries: "Sequence[Variant]", options: Mapping[str, object], path: str) -> list[str]:
    """Returns a mistake for each option of a stage that changes more than the objective."""
    return [
        f"{path}.options.{key}: a stage may change the objective alone, but {entry.name!r} changes the "
        f"{', '.join(entry.changes)}. Set it in [options]."
        for key in options
        for entry in entries
        if key.rpartition(".")[2] in entry.options and set(entry.changes) != {"objective"}
    ]
