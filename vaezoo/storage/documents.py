"""JSON that is written one way and read strictly, whoever wrote it. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vaezoo.errors import CorruptWeightsError, VaezooError

__all__ = ["canonical", "opened", "parse_json", "read_bytes", "seal", "sha256", "unseal"]

LARGEST_JSON = 2**20  # bytes: anything longer is no document of ours
DEEPEST_JSON = 32  # tables and lists inside each other


def canonical(value: object) -> str:
    """Returns canonical JSON: sorted keys, no NaN; equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def sha256(data: bytes) -> str:
    """Returns the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def parse_json(data: bytes, name: str, largest: int = LARGEST_JSON) -> object:
    """Returns the value of JSON bytes.

    Raises:
        CorruptWeightsError: malformed, too large or too deep, a key that stands twice, a number or a text that JSON
            could not say again.
    """
    if len(data) > largest:
        raise CorruptWeightsError(f"{name} has {len(data):,} bytes; expected at most {largest:,}.")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def refuse(text: str) -> object:
        raise ValueError(f"{text} is no JSON number")

    try:
        value: object = json.loads(data, object_pairs_hook=unique, parse_constant=refuse)
        check_depth(value)
        # Refuses what JSON cannot say again: 1e999, half a surrogate pair.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise CorruptWeightsError(f"{name} is not valid JSON: {error}. Fetch or save the folder again.") from None


def check_depth(value: object) -> None:
    """Raises ValueError if tables and lists lie too deep in each other: what walks through them would take long."""
    layer = [value]
    for _ in range(DEEPEST_JSON + 1):
        inside = [each.values() if isinstance(each, dict) else each for each in layer if isinstance(each, dict | list)]
        layer = [value for values in inside for value in values]
        if not layer:
            return
    raise ValueError(f"it is nested more than {DEEPEST_JSON} deep")


def seal(body: Mapping[str, object]) -> bytes:
    """Returns a document: canonical JSON of `body` and of `digest`, the SHA-256 of all the rest."""
    return canonical({**body, "digest": sha256(canonical(body).encode())}).encode()


def unseal(data: bytes, name: str, largest: int = LARGEST_JSON) -> dict[str, object]:
    """Returns the body of a document, every byte of it as `seal` wrote it.

    Raises:
        CorruptWeightsError: it is not what was written.
    """
    body = parse_json(data, name, largest)
    if not isinstance(body, dict):
        raise CorruptWeightsError(f"{name} holds no table. Fetch or save it again.")
    body.pop("digest", None)
    if seal(body) != data:
        raise CorruptWeightsError(
            f"{name} was changed after it was written (its digest differs). Fetch or save it again."
        )
    return body


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file to read it in the block.

    Raises:
        CorruptWeightsError: it is missing, unreadable or no file.
    """
    try:
        if not path.is_file():  # a pipe would be waited for, a device may have no end
            raise FileNotFoundError(2, "No such file")
        with open(path, "rb") as file:
            yield file
    except VaezooError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) else error
        raise CorruptWeightsError(f"{path} cannot be read: {reason}. The folder is incomplete.") from None


def read_bytes(path: Path, largest: int | None = None) -> bytes:
    """Returns a file's bytes.

    Raises:
        CorruptWeightsError: it is missing, unreadable, no file, or longer than `largest` bytes: then it is not read.
    """
    with opened(path) as file:
        data = file.read() if largest is None else file.read(largest + 1)
    if largest is not None and len(data) > largest:
        raise CorruptWeightsError(f"{path} has more than {largest:,} bytes, the most expected. Fetch or save it again.")
    return data
