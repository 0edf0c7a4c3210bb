"""The file of compressed data: a magic number, a JSON header, contexts, the words of the coder, and a SHA-256."""

import hashlib
import json
import platform
import struct
import zlib
from typing import Annotated, Final, Literal, TypedDict

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vaezoo.errors import CompressionError, VaezooError
from vaezoo.storage.json_files import parse_json

MAGIC: Final = b"vaezoo-z"
FORMAT: Final = 1
DIGEST: Final = 32  # bytes of a SHA-256
KINDS: Final = {"labels": "<i4", "vectors": "<f4"}
Kind = Literal["", "labels", "vectors"]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]


class Header(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The header of a file.

    `model`: name, for people; `weights`: digest of its tensors. `shape`, `levels`, `count`: of the examples. `direct`:
    examples whose latents were not taken from the bits of others. `images`: digest of the levels. `context`: kind of
    the contexts and number of their bytes. `torch`, `threads`, `machine`: where it was compressed.
    """

    format: Literal[1]
    model: str
    weights: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    shape: tuple[Count, ...]
    levels: Annotated[int, msgspec.Meta(ge=2, le=65536)]
    count: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    direct: tuple[Count, ...]
    images: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    context: tuple[Kind, Count, Count]
    data: str
    torch: str
    threads: Count
    machine: str
    vaezoo: str

    @property
    def place(self) -> str:
        """Version of torch, number of threads and machine class."""
        return f"torch {self.torch}, {self.threads} thread{'s' * (self.threads != 1)}, {self.machine}"


class Place(TypedDict):
    """The fields of a header that describe a process."""

    torch: str
    threads: int
    machine: str


def here() -> Place:
    """Returns those of this process."""
    return {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "machine": platform.machine()}


def digest_of(levels: Tensor) -> str:
    """Returns the SHA-256 of levels (N, *shape)."""
    return hashlib.sha256(levels.cpu().numpy().astype("<u2").tobytes()).hexdigest()


def pack(header: Header, context: bytes, words: NDArray[np.uint32]) -> bytes:
    """Returns the bytes of a file."""
    text = json.dumps(msgspec.to_builtins(header), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    body = MAGIC + struct.pack("<I", len(text)) + text + context + words.astype("<u4").tobytes()
    return body + hashlib.sha256(body).digest()


def unpack(data: bytes) -> tuple[Header, bytes, NDArray[np.uint32]]:
    """Returns header, contexts and words of the bytes of a file.

    Raises:
        CompressionError: it is no such file, of another format, truncated or damaged.
    """
    start = len(MAGIC) + 4
    if data[: len(MAGIC)] != MAGIC:
        raise CompressionError(f"Got a file that starts with {data[:8]!r}; expected one that `vaezoo compress` wrote.")
    if len(data) < start + DIGEST or hashlib.sha256(data[:-DIGEST]).digest() != data[-DIGEST:]:
        raise CompressionError(
            f"Got {len(data):,} bytes whose SHA-256 is not the recorded one: the file is truncated or damaged. Copy "
            "it again."
        )
    size = struct.unpack("<I", data[len(MAGIC) : start])[0]
    try:
        found = parse_json(data[start : start + size], "The header", 2**26)
        if isinstance(found, dict) and found.get("format") != FORMAT:
            raise CompressionError(
                f"Got a file of format {found.get('format')!r}; this version of vaezoo reads format {FORMAT}. Use the "
                "version that wrote it."
            )
        header = msgspec.convert(found, Header, strict=True)
    except (msgspec.ValidationError, VaezooError) as error:
        if isinstance(error, CompressionError):
            raise
        raise CompressionError(f"The header of the file is malformed: {error}") from None
    rest = data[start + size : -DIGEST]
    length = header.context[1]
    if length > len(rest) or (len(rest) - length) % 4:
        raise CompressionError("The header does not fit the size of the file. Compress the data again.")
    return header, rest[:length], np.frombuffer(rest[length:], "<u4").astype(np.uint32)


def pack_context(context: Tensor | None) -> tuple[tuple[Kind, int, int], bytes]:
    """Returns the field `context` of a header, and contexts as bytes: labels (N,) or vectors (N, C)."""
    if context is None:
        return ("", 0, 0), b""
    kind: Kind = "vectors" if context.is_floating_point() else "labels"
    found = zlib.compress(context.cpu().numpy().astype(KINDS[kind]).tobytes(), 9)
    return (kind, len(found), 0 if kind == "labels" else context.shape[1]), found


def unpack_context(header: Header, data: bytes) -> Tensor | None:
    """Returns contexts, labels (N,) int64 or vectors (N, C) float32; None without any."""
    kind, _, width = header.context
    if not kind:
        return None
    size = header.count * 4 * (width if kind == "vectors" else 1)
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data, size + 1)  # no more memory than the contexts need
    except zlib.error as error:
        raise CompressionError(f"The contexts of the file cannot be read: {error}. Compress the data again.") from None
    if len(raw) != size:
        raise CompressionError("The contexts do not fit the number of examples. Compress the data again.")
    values = torch.from_numpy(np.frombuffer(raw, KINDS[kind]).copy())
    return values.view(header.count, width) if kind == "vectors" else values.long()
