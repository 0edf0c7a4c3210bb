"""`key=value` overrides, with a dotted key, or a bare one that is unique."""

import tomllib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from vaezoo.errors import VaezooError, did_you_mean, shorten
from vaezoo.recipe.schema import ArchitectureTable, DataTable, Stage, fields_of

if TYPE_CHECKING:
    from vaezoo.registry import Variant

Tables = dict[str, object]
# Keys that are also names of tables: only valid with the table in front.
NOT_BARE = {("train", "train"), ("train", "options")}


def split_override(text: object, mistakes: list[str]) -> tuple[str, object] | None:
    """Returns key and value of a `key=value` override; the value is read as TOML, else as a string."""
    key, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
    if not equals or not key.strip():
        mistakes.append(f"override {shorten(text)}: expected key=value, such as train.steps=1000.")
        return None
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        return key.strip(), value.strip()


def apply_override(tables: Tables, key: str, value: object, mistakes: list[str]) -> None:
    """Sets a dotted or bare key in the tables."""
    parts = key.split(".")
    if len(parts) == 1 and key not in ("options", "architecture", "data", "teacher"):
        homes = sorted(set(slots(tables, key)))
        if len(homes) != 1:
            mistakes.append(f"override {shorten(key)} {why_not(tables, key, homes)}")
            return
        parts = list(homes[0])
    elif parts[0] == "options":
        parts = ["options", ".".join(parts[1:])] if len(parts) > 1 else parts  # "iwae.samples" is one option
    for target, rest in targets(tables, parts):
        holder = inner(target, rest[:-1])
        if holder is None or not rest or not rest[-1]:
            mistakes.append(
                f"override {shorten(key)}: the recipe has no table for it. Set the whole table, as in "
                "architecture.backbone={name='mlp', hidden=[400]}."
            )
            return
        holder[rest[-1]] = value
        # steps and epochs exclude each other: the override wins. 0 means unset.
        other = {"steps": "epochs", "epochs": "steps"}.get(rest[-1])
        if other and value:
            holder.pop(other, None)


def slots(tables: Tables, key: str) -> Iterator[tuple[str, ...]]:
    """Yields the path of every setting or option `key` that an override may name without its table."""
    if key in ("variant", "seed", "init"):
        yield (key,)
    for table, struct in (("architecture", ArchitectureTable), ("data", DataTable), ("train", Stage)):
        if key in fields_of(struct) and (table, key) not in NOT_BARE:
            yield table, key
    owners = [entry.name for entry in entries(tables) if key in entry.options]
    for owner in owners:
        yield "options", key if len(owners) == 1 else f"{owner}.{key}"


def entries(tables: Tables) -> "Sequence[Variant]":
    """Returns the variants that the recipe names; none if the name is wrong, which is reported elsewhere."""
    from vaezoo import registry  # imports torch

    try:
        return registry.resolve(cast(str, tables.get("variant")))
    except VaezooError:
        return []


def known_keys() -> set[str]:
    """Returns every key that an override of some recipe may have, also the options of all variants."""
    from vaezoo import registry  # imports torch

    keys = {
        "variant",
        "seed",
        "init",
        *(key for entry in registry.variants.available()[0].values() for key in entry.options),
    }
    return keys.union(*map(fields_of, (ArchitectureTable, DataTable, Stage)))


def why_not(tables: Tables, key: str, homes: list[tuple[str, ...]]) -> str:
    """Returns the reason why a bare key cannot be used."""
    if homes:
        return f"is ambiguous: write {' or '.join('.'.join(home) for home in homes)}."
    if key in ("architecture", "data", "train", "stage", "options", "teacher"):
        return f"is a table: name one of its keys, such as {key}.{'0.' if key == 'stage' else ''}KEY=value."
    known = ["variant", "seed", "init", *(option for entry in entries(tables) for option in entry.options)]
    for struct in (ArchitectureTable, DataTable, Stage):
        known += fields_of(struct)
    return f"is unknown.{did_you_mean(key, known)}"


def targets(tables: Tables, parts: list[str]) -> list[tuple[object, list[str]]]:
    """Returns the tables that an override applies to, each with the rest of the path.

    `train` means every stage, `stage.0` the first one.
    """
    if parts[0] not in ("train", "stage"):
        return [(tables, parts)]
    stages = tables["stage"] if isinstance(tables.get("stage"), list) else [tables.setdefault("train", {})]
    rest = parts[1:]
    every = cast(list[object], stages)
    if parts[0] == "stage" and rest and rest[0].isdecimal():
        number = int(rest[0][:9])
        return [(every[number] if number < len(every) else None, rest[1:])]
    return [(each, rest) for each in every]


def inner(target: object, path: list[str]) -> Tables | None:
    """Returns the table at `path` inside `target`, created if missing; None if the value there is not a table."""
    for depth, part in enumerate(path):
        if not isinstance(target, dict):
            return None
        named = part in ("backbone", "likelihood") and depth == 1
        if named and isinstance(target.get(part), str):
            target[part] = {"name": target[part]}  # "mlp" means { name = "mlp" }
        if named and part not in target:
            return None
        target = target.setdefault(part, {})
    return target if isinstance(target, dict) else None
