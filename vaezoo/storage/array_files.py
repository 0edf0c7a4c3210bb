"""Named arrays in one file: `.npz`, `.safetensors` or `.parquet`, written from memory maps a part at a time."""

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vaezoo.core import require
from vaezoo.errors import ConfigError, did_you_mean, shorten
from vaezoo.storage.json_files import canonical

Columns = Mapping[str, NDArray[Any]]  # Any: arrays of several types
ROWS: Final = 8192
"""Rows that are in memory at a time, and in a row group of Parquet."""

EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The time of files in a zip archive, so that equal arrays give equal bytes."""

SAFE_TYPES: Final = {"float32": "F32", "float64": "F64", "int64": "I64", "uint8": "U8"}


def write_npz(file: Path, columns: Columns, facts: Mapping[str, object]) -> None:
    """Writes arrays (N, …) as an archive for `numpy.load`, and the facts as JSON text in the array `facts`."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in {**columns, "facts": np.array(canonical(facts))}.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", EPOCH), "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)  # a buffer at a time


def write_safetensors(file: Path, columns: Columns, facts: Mapping[str, object]) -> None:
    """Writes arrays (N, …) as tensors, texts as a `uint8` tensor of JSON, and the facts into the file's metadata."""
    tensors = {name: as_bytes(each) if each.dtype.kind == "U" else each for name, each in columns.items()}
    header: dict[str, object] = {"__metadata__": {"facts": json.dumps(facts, sort_keys=True)}}
    place = 0
    for name, each in tensors.items():
        end = place + each.nbytes
        kind = SAFE_TYPES[each.dtype.name]
        header[name] = {"dtype": kind, "shape": list(each.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "xb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for each in tensors.values():
            for part in parts_of(each):
                stream.write(part.tobytes())


def as_bytes(texts: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns texts as the bytes of a JSON list."""
    return np.frombuffer(json.dumps(texts.tolist(), ensure_ascii=False).encode(), np.uint8)


def write_parquet(file: Path, columns: Columns, facts: Mapping[str, object]) -> None:
    """Writes rows: arrays of more than one axis as lists of a fixed size, and the facts into the schema's metadata."""
    arrow = require("pyarrow", "'vaezoo[parquet]'", "A file .parquet")
    parquet = require("pyarrow.parquet", "'vaezoo[parquet]'", "A file .parquet")

    def column(part: NDArray[Any]) -> Any:  # Any: pyarrow may be missing
        values = arrow.array(part.tolist() if part.dtype.kind == "U" else part.reshape(-1))
        width = math.prod(part.shape[1:])
        return values if part.ndim == 1 else arrow.FixedSizeListArray.from_arrays(values, width)

    empty = {name: column(each[:0]) for name, each in columns.items()}
    kinds = {name: arrow.string() if columns[name].dtype.kind == "U" else each.type for name, each in empty.items()}
    schema = arrow.schema(list(kinds.items()), metadata={"facts": json.dumps(facts, sort_keys=True)})
    with parquet.ParquetWriter(file, schema) as writer:
        parts = (parts_of(each) for each in columns.values())
        for row in zip(*parts, strict=True):
            arrays = map(column, row)
            writer.write_table(arrow.Table.from_arrays(list(arrays), schema=schema))


def parts_of(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yields an array in parts of at most `ROWS` rows; one of no axis whole."""
    if array.ndim == 0:
        yield array
        return
    for start in range(0, len(array), ROWS):
        yield array[start : start + ROWS]


WRITERS: Final[Mapping[str, Callable[[Path, Columns, Mapping[str, object]], None]]] = {
    ".npz": write_npz,
    ".parquet": write_parquet,
    ".safetensors": write_safetensors,
}


def writer_of(file: Path) -> Callable[[Path, Columns, Mapping[str, object]], None]:
    """Returns the function that writes a file of this suffix.

    Raises:
        ConfigError: another suffix.
        MissingExtraError: its package is not installed.
    """
    suffix = file.suffix.lower()
    if suffix not in WRITERS:
        hint = did_you_mean(suffix, WRITERS)
        raise ConfigError(f"Got {shorten(str(file))}; expected a file ending in {', '.join(WRITERS)}.{hint}")
    if suffix == ".parquet":
        require("pyarrow", "'vaezoo[parquet]'", "A file .parquet")
    return WRITERS[suffix]
