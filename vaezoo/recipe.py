"""Recipes: TOML in, a validated record out.

A recipe names a variant, its options, an architecture, a data set and how to train. Unknown keys are errors; all mistakes are
reported at once, each with its path and the closest known name. `key=value` overrides take a dotted key, or a bare one that is
unique.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from vaezoo.errors import ConfigError, RecipeError, UnknownNameError, did_you_mean, shorten

__all__ = ["ArchitectureTable", "DataTable", "Recipe", "Stage", "find_recipe", "list_recipes", "read_recipe"]

Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
Rate = Annotated[float, Meta(gt=0, le=10)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Table = msgspec.Struct
S = TypeVar("S", bound=msgspec.Struct)


class ArchitectureTable(Table, frozen=True, kw_only=True):
    """`[architecture]`: what all variants share; left out, the variant's own default."""

    latent: Positive | list[Positive] | None = None
    backbone: str | dict[str, object] | None = None
    likelihood: str | dict[str, object] | None = None


class DataTable(Table, frozen=True, kw_only=True):
    """`[data]`: a data set by name, how it is binarized, whether its labels are the context, how many images are held out."""

    name: str
    binarize: Literal["none", "dynamic", "static"] = "none"
    context: bool = False
    validation: Count = 0


class Stage(Table, frozen=True, kw_only=True):
    """`[train]`, or one of several `[[stage]]`s.

    Exactly one of `steps` and `epochs`. `learning_rate` falls to `final_learning_rate` by `schedule = "cosine"`, after `warmup`
    steps of rising; `learning_rates` sets single players'. `average` is the decay of averaged weights (0: none), `clip` the
    largest gradient norm (0: none). `rate_warmup`, `rate_cycles`, `free_bits` schedule the rate's weight. `train` names the
    parts that learn (all by default), `options` changes the variant's options for this stage.
    """

    steps: Count = 0
    epochs: Count = 0
    batch_size: Positive = 128
    accumulation: Positive = 1
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: Rate = 1e-3
    final_learning_rate: Annotated[float, Meta(ge=0, le=10)] = 0.0
    learning_rates: dict[str, Rate] = msgspec.field(default_factory=dict)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: Count = 0
    betas: tuple[Share, Share] = (0.9, 0.999)
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 1e-8
    weight_decay: Annotated[float, Meta(ge=0, le=10)] = 0.0
    clip: Annotated[float, Meta(ge=0)] = 0.0
    average: Share = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    rate_warmup: Count = 0
    rate_cycles: Count = 0
    free_bits: Annotated[float, Meta(ge=0)] = 0.0
    train: list[Literal["encoder", "decoder", "prior", "objective"]] = msgspec.field(default_factory=list)
    options: dict[str, object] = msgspec.field(default_factory=dict)


class Recipe(Table, frozen=True, kw_only=True):
    """A whole recipe; `stages` come from `[train]` or from `[[stage]]`s."""

    variant: str
    data: DataTable
    stages: tuple[Stage, ...]
    name: str = ""
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0
    init: str | None = None
    options: dict[str, object] = msgspec.field(default_factory=dict)
    architecture: ArchitectureTable = msgspec.field(default_factory=ArchitectureTable)

    def as_dict(self) -> dict[str, object]:
        """Returns plain values, all defaults written out."""
        return typing.cast(dict[str, object], msgspec.to_builtins(self))

    @property
    def digest(self) -> str:
        """The SHA-256 of the recipe's canonical JSON, its name left out."""
        plain = {key: value for key, value in self.as_dict().items() if key != "name"}
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def places() -> list[Path]:
    """Returns where recipes lie: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).parent
    return [folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()]


def list_recipes() -> dict[str, Path]:
    """Returns the recipes that come with vaezoo, by name."""
    return {path.stem: path for folder in reversed(places()) for path in sorted(folder.glob("*.toml"))}


def find_recipe(name: str | Path) -> Path:
    """Returns the file of a recipe's name, or the path itself when it ends in `.toml`.

    Raises:
        UnknownNameError: no such name or file.
    """
    known = list_recipes()
    if isinstance(name, str) and name in known:
        return known[name]
    path = Path(name)
    if path.suffix == ".toml" and "\0" not in str(name) and path.is_file():
        return path
    raise UnknownNameError("recipe", str(name), known, "A recipe of your own is a path that ends in .toml.")


def read_recipe(source: str | Path | Mapping[str, object], overrides: Sequence[str] = (), **changes: object) -> Recipe:
    """Returns the recipe of a name, a TOML file or a mapping, with overrides applied and everything checked.

    Args:
        source: a recipe's name, a path that ends in `.toml`, or the tables themselves.
        overrides: `key=value` strings; the key dotted ("train.steps") or bare and unique ("steps"), the value as in TOML.
        **changes: the same by keyword; `steps=1000`.

    Raises:
        UnknownNameError: no such recipe.
        RecipeError: all mistakes at once, each with its path.
    """
    if isinstance(source, Mapping):
        name, tables = "recipe", json.loads(json.dumps(source))
    else:
        path = find_recipe(source)
        name = path.stem
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RecipeError(f"Recipe {path.name} is not TOML: {error}.") from None
    mistakes: list[str] = []
    pairs = [split_override(text, mistakes) for text in overrides]
    for key, value in [*(pair for pair in pairs if pair), *changes.items()]:
        apply_override(tables, key, value, mistakes)
    recipe = build(name, tables, mistakes)
    if mistakes or recipe is None:
        lines = "\n".join(f"  {number}. {text}" for number, text in enumerate(mistakes, 1))
        raise RecipeError(f"Recipe {name!r} has {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}:\n{lines}")
    return recipe


def split_override(text: str, mistakes: list[str]) -> tuple[str, object] | None:
    """Returns key and value of a `key=value` override; the value is read as TOML, else as a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        mistakes.append(f"override {shorten(text)}: expected key=value, such as train.steps=1000.")
        return None
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def slots() -> Iterator[tuple[str, str]]:
    """Yields (table, key) of everything that an override may set; the table of top-level keys is empty."""
    yield from (("", key) for key in ("variant", "seed", "init"))
    for table, struct in (("architecture", ArchitectureTable), ("data", DataTable), ("train", Stage)):
        yield from ((table, field.name) for field in msgspec.structs.fields(struct))


def apply_override(tables: dict[str, object], key: str, value: object, mistakes: list[str]) -> None:
    """Sets a dotted or a bare key in the tables."""
    parts = key.split(".")
    if len(parts) == 1:
        options = tables.get("options")
        homes = [(table, name) for table, name in slots() if name == key]
        homes += [("options", key)] if isinstance(options, dict) and key in options else []
        if len(homes) != 1:
            known = sorted({name for _, name in slots()})
            reason = f"is ambiguous: {', '.join('.'.join(home) for home in homes)}" if homes else "is unknown"
            mistakes.append(
                f"override {shorten(key)} {reason}.{did_you_mean(key, known)} Options of the variant: options.NAME."
            )
            return
        parts = [part for part in homes[0] if part]
    targets: list[object] = [tables]
    if parts[0] == "train" and isinstance(tables.get("stage"), list):
        targets, parts = list(typing.cast(list[object], tables["stage"])), parts[1:]
    for target in targets:
        for part in parts[:-1]:
            target = target.setdefault(part, {}) if isinstance(target, dict) else None
        if not isinstance(target, dict) or not parts:
            mistakes.append(f"override {shorten(key)}: it is not in a table.")
            return
        target[parts[-1]] = value
        # steps and epochs say the same thing: the override wins.
        if parts[-1] in ("steps", "epochs"):
            target.pop({"steps": "epochs", "epochs": "steps"}[parts[-1]], None)


def table(struct: type[S], given: object, path: str, mistakes: list[str]) -> S | None:
    """Returns `given` as `struct`; adds every mistake in it to `mistakes` with its path."""
    if not isinstance(given, Mapping):
        mistakes.append(f"{path}: expected a table; got {shorten(given)}.")
        return None
    hints = typing.get_type_hints(struct, include_extras=True)
    known = {field.name: field for field in msgspec.structs.fields(struct)}
    values: dict[str, object] = {}
    before = len(mistakes)
    for key, value in given.items():
        if key not in known:
            mistakes.append(f"{path}.{key}: unknown key.{did_you_mean(key, known)} Keys: {', '.join(known)}.")
            continue
        try:
            values[key] = msgspec.convert(value, type=hints[key], strict=True)
        except msgspec.ValidationError as error:
            mistakes.append(f"{path}.{key}: {error}; got {shorten(value)}.")
    missing = [name for name, field in known.items() if field.required and name not in given]
    mistakes += [f"{path}.{name}: missing." for name in missing]
    return struct(**values) if len(mistakes) == before else None


def build(name: str, tables: Mapping[str, object], mistakes: list[str]) -> Recipe | None:
    """Returns the recipe of the tables; adds every mistake to `mistakes`."""
    keys = ("variant", "seed", "init", "options", "architecture", "data", "train", "stage")
    for key in tables:
        if key not in keys:
            mistakes.append(f"{shorten(key)}: unknown key.{did_you_mean(key, keys)} Keys: {', '.join(keys)}.")
    data = table(DataTable, tables.get("data", {}), "data", mistakes)
    architecture = table(ArchitectureTable, tables.get("architecture", {}), "architecture", mistakes)
    stages = build_stages(tables, mistakes)
    head = {key: tables[key] for key in ("variant", "seed", "init", "options") if key in tables}
    for key, kind in (("variant", str), ("seed", int), ("init", str), ("options", dict)):
        if key in head and (not isinstance(head[key], kind) or isinstance(head[key], bool)):
            mistakes.append(f"{key}: expected {kind.__name__}; got {shorten(head.pop(key))}.")
    if "variant" not in tables:
        mistakes.append("variant: missing. Name one, such as variant = 'vae'.")
    elif "variant" in head:
        check_names(head, architecture, stages, mistakes)
    if mistakes or data is None or architecture is None:
        return None
    fields = {"name": name, "data": data, "architecture": architecture, "stages": tuple(stages), **head}
    try:
        return Recipe(**fields)
    except msgspec.ValidationError as error:
        mistakes.append(f"{error}.")
        return None


def build_stages(tables: Mapping[str, object], mistakes: list[str]) -> list[Stage]:
    """Returns the stages of `[train]` or `[[stage]]`."""
    if ("train" in tables) == ("stage" in tables):
        got = "both" if "train" in tables else "neither"
        mistakes.append(f"train: expected one [train] table or several [[stage]] tables; got {got}.")
        return []
    given = tables.get("stage", [tables.get("train")])
    if not isinstance(given, list) or not given:
        mistakes.append(f"stage: expected [[stage]] tables; got {shorten(given)}.")
        return []
    found = []
    for number, each in enumerate(given):
        path = "train" if "train" in tables else f"stage[{number}]"
        stage = table(Stage, each, path, mistakes)
        if stage is None:
            continue
        if bool(stage.steps) == bool(stage.epochs):
            mistakes.append(f"{path}: set one of steps and epochs; got steps = {stage.steps}, epochs = {stage.epochs}.")
        if stage.rate_cycles and not stage.rate_warmup:
            mistakes.append(f"{path}.rate_cycles: needs rate_warmup, the steps of one cycle.")
        found.append(stage)
    return found


def check_names(
    head: Mapping[str, object], architecture: ArchitectureTable | None, stages: Sequence[Stage], mistakes: list[str]
) -> None:
    """Looks the variant, its options, the backbone and the likelihood up in their registries."""
    from vaezoo import registry  # it imports variants, which import torch: only when a recipe is read

    checks: list[types.FunctionType | typing.Callable[[], object]] = []
    try:
        entries = registry.chosen(str(head["variant"]))
    except (LookupError, ConfigError) as error:
        mistakes.append(f"variant: {error}")
    else:
        own = typing.cast(dict[str, object], head.get("options", {}))
        checks += [lambda: registry.split_options(entries, own)]
        checks += [lambda stage=stage: registry.split_options(entries, {**own, **stage.options}) for stage in stages]
    if architecture is not None:
        if architecture.backbone is not None:
            backbone = architecture.backbone
            checks.append(lambda: registry.check_named(registry.backbones, backbone))
        if architecture.likelihood is not None:
            likelihood = architecture.likelihood
            checks.append(lambda: registry.check_named(registry.likelihoods, likelihood))
    for check in checks:
        try:
            check()
        except (LookupError, ConfigError) as error:
            mistakes += [line for line in str(error).splitlines() if line not in mistakes]
