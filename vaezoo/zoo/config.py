"""`config.json` of a model folder: what it may say, and how it is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from vaezoo.documents import read_bytes, unseal
from vaezoo.errors import ConfigError, CorruptWeightsError, shorten

__all__ = ["CONFIG", "FORMAT", "WEIGHTS", "check_config", "read_config"]

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
LARGEST_CONFIG = 2**16  # bytes; the bundled ones have less than a thousand
LONGEST_TEXT = 1000  # characters of a key or a value

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Table = Annotated[dict[str, object], Meta(max_length=256)]  # options, which their owners check


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A table with exactly these keys."""


class ArchitectureFacts(Strict):
    """What all variants share; `vaezoo.registry.Architecture` checks the values."""

    shape: Annotated[list[Count], Meta(max_length=64)]
    latent: Annotated[list[Count], Meta(max_length=64)]
    context: Count
    backbone: Table
    likelihood: Table
    examples: Count


class DataFacts(Strict):
    """What the model was trained on: said, never opened."""

    name: str
    binarize: Literal["none", "dynamic", "static"]
    digest: str | None = None


class Extension(msgspec.Struct, rename={"before": "from"}, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A run made longer: at which step, from how many steps to how many, and the recipe until then."""

    step: Count
    before: Count
    to: Count
    recipe: str


class RecipeFacts(Strict):
    """Which recipe made the model."""

    name: str
    digest: str
    extensions: Annotated[list[Extension], Meta(max_length=1000)] = []


class WeightsFacts(Strict):
    """Size and SHA-256 of the weights; their file always has the same name."""

    file: Literal["model.safetensors"]
    size: Count
    sha256: Hash


class Config(Strict):
    """The whole of `config.json` but for its digest."""

    format: Literal[1]
    vaezoo: str
    variant: str
    architecture: ArchitectureFacts
    options: Table
    data: DataFacts | None
    recipe: RecipeFacts | None
    weights: WeightsFacts


def texts(value: object) -> Iterator[str]:
    """Yields every key and every text of nested tables and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)


def check_config(config: Mapping[str, object]) -> None:
    """Checks that a config, without its digest, has the fields of one, each of its kind.

    Raises:
        ConfigError: what was found and what was expected.
    """
    odd = [text for text in texts(config) if len(text) > LONGEST_TEXT or not text.isprintable()]
    if odd:
        raise ConfigError(f"expected printable text of at most {LONGEST_TEXT} characters; got {shorten(odd[0])}")
    try:
        msgspec.convert(config, Config, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise ConfigError(str(error)[:300]) from None


def read_config(folder: Path) -> dict[str, object]:
    """Returns a folder's verified config.

    Raises:
        CorruptWeightsError: missing, malformed, or not the bytes that were written.
    """
    name = f"{folder.name}/{CONFIG}"
    config = unseal(read_bytes(folder / CONFIG, LARGEST_CONFIG), name)
    if config.get("format") != FORMAT:
        raise CorruptWeightsError(
            f"{folder.name} has format {shorten(config.get('format'))}; this vaezoo reads format {FORMAT}. "
            "Update vaezoo."
        )
    try:
        check_config(config)
    except ConfigError as error:
        raise CorruptWeightsError(f"{name} is not the config of a model: {error}. Fetch or save it again.") from None
    return config
