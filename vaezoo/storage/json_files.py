"""JSON documents: canonical writing, strict reading, digests of their values. Imports no torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vaezoo.errors import CorruptWeightsError, VaezooError

LARGEST_JSON = 2**20  # bytes
DEEPEST_JSON = 32  # nested tables and lists


def canonical(value: object) -> str:
    """Returns canonical JSON: sorted keys, no NaN; equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def sha256(data: bytes) -> str:
    """Returns the SHA-256 of `data` in hex."""
    return hashlib.sha256(data).hexdigest()


def parse_json(data: bytes, name: str, largest: int = LARGEST_JSON) -> object:
    """Returns the value of JSON bytes.

    Raises:
        CorruptWeightsError: malformed, too large or nested too deeply, a duplicate key, NaN or infinity, or text that
            is not Unicode.
    """
    if len(data) > largest:
        raise CorruptWeightsError(f"{name} has {len(data):,} bytes; expected at most {largest:,}.")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("it has a duplicate key")
        return dict(pairs)

    try:
        value: object = json.loads(data, object_pairs_hook=unique)
        if depth(value) > DEEPEST_JSON:
            raise ValueError(f"it is nested more than {DEEPEST_JSON} deep")
        canonical(value).encode()  # refuses NaN, 1e999 and half a surrogate pair
        return value
    except (ValueError, RecursionError) as error:
        raise CorruptWeightsError(f"{name} is not valid JSON: {error}. Fetch or save the folder again.") from None


def depth(value: object) -> int:
    """Returns how deeply tables and lists are nested in a value."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0)


def seal(body: Mapping[str, object]) -> bytes:
    """Returns the JSON of `body` and `digest`, the SHA-256 of the canonical JSON of `body`."""
    return canonical({**body, "digest": sha256(canonical(body).encode())}).encode()


def unseal(data: bytes, name: str, largest: int = LARGEST_JSON) -> dict[str, object]:
    """Returns the body of a document that `seal` wrote; its values must have the recorded digest, in any layout.

    Raises:
        CorruptWeightsError: a value differs from the one that was written.
    """
    body = parse_json(data, name, largest)
    if not isinstance(body, dict):
        raise CorruptWeightsError(f"{name} holds no table. Fetch or save it again.")
    if body.pop("digest", None) != sha256(canonical(body).encode()):
        raise CorruptWeightsError(
            f"A value of {name} was changed after it was written (its digest differs). Fetch or save it again."
        )
    return body


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a regular file for reading.

    Raises:
        CorruptWeightsError: it is missing, unreadable or not a regular file.
    """
    try:
        if not path.is_file():  # a pipe would block, a device may have no end
            raise FileNotFoundError(2, "No such file")
        with open(path, "rb") as file:
            yield file
    except VaezooError:
        raise
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise CorruptWeightsError(f"{path} cannot be read: {reason}. The folder is incomplete.") from None


def read_bytes(path: Path, largest: int | None = None) -> bytes:
    """Returns a file's bytes.

    Raises:
        CorruptWeightsError: it is missing, unreadable, not a regular file, or longer than `largest` bytes.
    """
    with opened(path) as file:
        data = file.read() if largest is None else file.read(largest + 1)
    if largest is not None and len(data) > largest:
        raise CorruptWeightsError(f"{path} has more than {largest:,} bytes, the most expected. Fetch or save it again.")
    return data
