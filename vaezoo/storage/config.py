"""`config.json` of a model folder: its schema, and its strict reading."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from vaezoo.errors import ConfigError, CorruptWeightsError, shorten
from vaezoo.storage.diffusers.settings import is_diffusers
from vaezoo.storage.json_files import parse_json, read_bytes, unseal

FORMATS = (1, 2)  # weights in one file, in several files
CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHARDS = f"model-{'[0-9]' * 5}-of-{'[0-9]' * 5}.safetensors"  # a pattern: the names of several files
SPARE = f"model-{'[0-9a-f]' * 16}.safetensors"  # a pattern: the names of files while a model is replaced
ORIGIN = "origin"  # a field of converted models
LOADED_AS = "dtype"  # a field of models whose weights are stored in a narrower type
LARGEST_CONFIG = 2**16  # bytes; the bundled ones have less than a thousand
MOST_NAMES, LONGEST_NAMES = 1000, 2**14  # names of classes, and bytes of them all
LONGEST_TEXT = 1000  # characters of a key or a value

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Side = Annotated[int, Meta(ge=1, le=8192)]
Byte = Annotated[int, Meta(ge=0, le=255)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Word = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]
ClassName = Annotated[str, Meta(pattern=r"^[^/\\\\]{1,64}\Z")]  # never a path
ColumnName = Annotated[str, Meta(min_length=1, max_length=64)]
Table = Annotated[dict[str, object], Meta(max_length=256)]  # options, which `create` checks


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A table with exactly these keys."""


class ArchitectureFacts(Strict, frozen=True):
    """The architecture; `vaezoo.registry.Architecture` checks the values."""

    shape: Annotated[list[Count], Meta(max_length=64)]
    latent: Annotated[list[Count], Meta(max_length=64)]
    context: Count
    backbone: Table
    likelihood: Table
    examples: Count


class DataFacts(Strict, frozen=True):
    """Training data (metadata only)."""

    name: str
    binarize: Literal["none", "dynamic", "static"]
    split: Literal["train", "all"] = "train"
    size: tuple[Side, Side] | None = None
    crop: Literal["center", "none"] = "center"
    channels: Literal["gray", "color"] | None = None
    background: tuple[Byte, Byte, Byte] | None = None
    pad: Count = 0
    digest: str | None = None
    class_names: Annotated[list[ClassName], Meta(min_length=1, max_length=MOST_NAMES)] | None = None
    columns: Annotated[list[ColumnName], Meta(min_length=1, max_length=MOST_NAMES)] | None = None  # of a data frame
    table: Annotated[dict[str, object], Meta(max_length=8)] | None = None  # a `vaezoo.data.TableLayout`
    series: Annotated[dict[str, object], Meta(max_length=8)] | None = None  # a `vaezoo.data.SeriesLayout`


class Extension(Strict, frozen=True, rename={"before": "from"}):
    """A change of a run on its way: the step, the number of steps before and after, and the recipe until then.

    `changes` has a line for each other setting that changed.
    """

    step: Count
    before: Count
    to: Count
    recipe: str
    changes: Annotated[list[str], Meta(max_length=256)] = []


class RecipeFacts(Strict, frozen=True):
    """The recipe of the training run."""

    name: str
    digest: str
    extensions: Annotated[list[Extension], Meta(max_length=1000)] = []


class WeightFile(Strict, frozen=True):
    """Size and SHA-256 of a file of weights; `file_names` or `spare_name` gives its name."""

    file: str
    size: Count
    sha256: Hash


class Several(Strict, frozen=True):
    """The weights in several files."""

    files: Annotated[list[WeightFile], Meta(min_length=2, max_length=10_000)]


Scale = Annotated[float, Meta(ge=1e-12, le=1e12)]
Shift = Annotated[float, Meta(ge=-1e12, le=1e12)]
Channels = Meta(min_length=1, max_length=512)


class LatentFacts(Strict, frozen=True):
    """Factors that normalize the latents, one for all or one for each channel, and the data that gave them.

    Scaled latents are (z - `shift_factor`) * `scaling_factor`. `noise` states whether the latents were drawn from the
    posterior (True) or its centers (False). Factors that a converted model brings have no data.
    """

    scaling_factor: Scale | Annotated[list[Scale], Channels]
    shift_factor: Shift | Annotated[list[Shift], Channels]
    noise: bool | None = None
    data: str | None = None
    split: str | None = None
    examples: Count | None = None


class Config(Strict, frozen=True):
    """The fields of `config.json` without its digest."""

    format: Literal[1, 2]
    vaezoo: str
    variant: str
    architecture: ArchitectureFacts
    options: Table
    data: DataFacts | None
    recipe: RecipeFacts | None
    weights: Annotated[dict[str, object], Meta(max_length=3)]  # a WeightFile or Several, by format
    # The source of a converted model, shown on its card.
    origin: Annotated[dict[Word, Word], Meta(max_length=8)] | None = None
    # The type of the loaded weights, where the files may hold float16 or bfloat16; without it the stored type is kept.
    dtype: Literal["float32"] | None = None
    # What `VAE.latents(x, scaled=True)` applies.
    latents: LatentFacts | None = None


def file_names(count: int) -> list[str]:
    """Returns the names of `count` files of weights."""
    return [WEIGHTS] if count == 1 else [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]


def spare_name(digest: str) -> str:
    """Returns the name of a file of weights that is written beside those of the model that it replaces."""
    return f"model-{digest[:16]}.safetensors"


def weight_files(config: Mapping[str, object]) -> list[WeightFile]:
    """Returns the files of weights that a config records; only names that vaezoo gives are accepted.

    Raises:
        ConfigError: the record is malformed.
    """
    facts = config["weights"]
    try:
        if config["format"] == 2:
            files = msgspec.convert(facts, Several, strict=True).files
        else:
            files = [msgspec.convert(facts, WeightFile, strict=True)]
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(f"its weights: {str(error)[:300]}") from None
    names, found = file_names(len(files)), [file.file for file in files]
    if found not in (names, [spare_name(file.sha256) for file in files]):
        raise ConfigError(f"its weights: expected {shorten(names)}; got {shorten(found)}")
    return files


def texts(value: object) -> Iterator[str]:
    """Yields all keys and texts of nested tables and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)


def check_texts(value: object) -> None:
    """Raises ConfigError if a key or text of nested tables and lists is too long or not printable."""
    odd = [text for text in texts(value) if len(text) > LONGEST_TEXT or not text.isprintable()]
    if odd:
        raise ConfigError(f"expected printable text of at most {LONGEST_TEXT} characters; got {shorten(odd[0])}")


def check_config(config: Mapping[str, object]) -> None:
    """Validates the fields of a config without its digest, and their types.

    Raises:
        ConfigError: the first field that is wrong, and what was expected.
    """
    check_texts(config)
    try:
        known = msgspec.convert(config, Config, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(str(error)[:300]) from None
    if known.latents is not None:
        check_channels(known.latents, known.architecture.latent)
    if known.data is not None and known.data.class_names is not None:
        check_names(known.data.class_names, known.architecture.context)
    if known.data is not None and known.data.columns is not None:
        check_names(known.data.columns, table_width(known.architecture.shape))
    if known.data is not None:
        check_layouts(known.data, known.architecture.shape)
    weight_files(config)


def check_layouts(data: DataFacts, shape: Sequence[int]) -> None:
    """Raises ConfigError unless the layout of a table or of series is valid and describes x of a shape."""
    for what, layout in (("table", data.table), ("series", data.series)):
        if layout is None:
            continue
        from vaezoo.data import SeriesLayout, TableLayout  # here: what only shows cards needs no torch

        try:
            expected: tuple[int, ...] = (
                (msgspec.convert(layout, TableLayout, strict=True).width,)
                if what == "table"
                else msgspec.convert(layout, SeriesLayout, strict=True).shape
            )
        except (msgspec.ValidationError, OverflowError) as error:
            raise ConfigError(f"its {what}: {str(error)[:300]}") from None
        if tuple(shape) != expected:
            raise ConfigError(f"its {what}: expected x of shape {expected}; got {shorten(list(shape))}")


def table_width(shape: Sequence[int]) -> int:
    """Returns the number of columns of tables with rows of this shape; 0 if they are no tables."""
    return shape[0] if len(shape) == 1 else 0


def recordable_names(names: Sequence[str] | None, count: int, *, columns: bool = False) -> list[str] | None:
    """Returns `count` names of classes or columns, or None if there are none or a config cannot hold them."""
    try:
        found = msgspec.convert(names, list[ColumnName]) if columns else msgspec.convert(names, list[ClassName])
        check_texts(found)
        check_names(found, count)
    except (msgspec.ValidationError, ConfigError):
        return None
    return found if len(found) <= MOST_NAMES else None


def check_names(names: Sequence[str], count: int) -> None:
    """Raises ConfigError unless there are `count` names of classes or columns, all different and not too long."""
    if len(set(names)) < len(names) or len(names) != count or len(json.dumps(names)) > LONGEST_NAMES:
        raise ConfigError(
            f"names of classes or columns: expected {count} different ones, at most {LONGEST_NAMES:,} bytes; got "
            f"{shorten(names)}"
        )


def check_channels(facts: LatentFacts, latent: Sequence[int]) -> None:
    """Raises ConfigError if a list of factors has not one for each channel, the first axis of `latent`."""
    for key in ("scaling_factor", "shift_factor"):
        found = getattr(facts, key)
        if isinstance(found, list) and len(found) != latent[0]:
            raise ConfigError(
                f"latents.{key}: expected a number, or one for each of {latent[0]} channels; got {len(found)}"
            )


def read_config(folder: Path) -> dict[str, object]:
    """Returns a folder's verified config.

    Raises:
        CorruptWeightsError: missing, malformed, or with a value that was changed after it was written.
        ConfigError: it is that of a model of diffusers.
    """
    name, data = f"{folder.name}/{CONFIG}", read_bytes(folder / CONFIG, LARGEST_CONFIG)
    if b'"_class_name"' in data and is_diffusers(parse_json(data, name)):
        raise ConfigError(
            f"{folder} is a folder of diffusers, which vaezoo.load reads. For everything else save its model in "
            "vaezoo's own layout first: vaezoo.save(vaezoo.load(…), FOLDER)."
        )
    config = unseal(data, name)
    if config.get("format") not in FORMATS:
        raise CorruptWeightsError(
            f"{folder.name} has format {shorten(config.get('format'))}; this vaezoo reads {FORMATS}. Update vaezoo."
        )
    try:
        check_config(config)
    except ConfigError as error:
        raise CorruptWeightsError(f"{name} is not the config of a model: {error}. Fetch or save it again.") from None
    return config
