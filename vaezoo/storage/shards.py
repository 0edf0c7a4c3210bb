"""Weights in one file or several: their division, and their record in a config."""

import re
from collections.abc import Iterator, Mapping

import msgspec
from safetensors.torch import save as pack_tensors
from torch import Tensor

from vaezoo.errors import ConfigError
from vaezoo.storage.config import ONE_FILE, WeightFile, file_names
from vaezoo.storage.json_files import sha256

SHARD_NAME = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")
SHARD = 2 * 10**9  # bytes of tensors in a file


def is_weights(name: str) -> bool:
    """Returns whether a file of this name holds weights."""
    return name == ONE_FILE or SHARD_NAME.fullmatch(name) is not None


def packed(state: Mapping[str, Tensor], shard: int) -> Iterator[tuple[str, bytes]]:
    """Yields name and bytes of each file: tensors in the order of their names, at most `shard` bytes of them in a file.

    A tensor is never divided: a larger one has a file of its own.

    Raises:
        ConfigError: `shard` is below 1 byte.
    """
    if shard < 1:
        raise ConfigError(f"Got {shard} bytes a file; expected at least 1.")
    groups: list[dict[str, Tensor]] = [{}]
    held = 0
    for name, tensor in sorted(state.items()):
        if groups[-1] and held + tensor.nbytes > shard:
            groups.append({})
            held = 0
        groups[-1][name] = tensor
        held += tensor.nbytes
    for name, group in zip(file_names(len(groups)), groups, strict=True):
        yield name, pack_tensors(group)


def recorded(files: list[WeightFile]) -> tuple[int, dict[str, object]]:
    """Returns the format number and a config's record of these files: 1 for one file, 2 for several."""
    tables: list[dict[str, object]] = [msgspec.structs.asdict(file) for file in files]
    return (1, tables[0]) if len(files) == 1 else (2, {"files": tables})


def file_of(name: str, data: bytes) -> WeightFile:
    """Returns the record of a file."""
    return WeightFile(file=name, size=len(data), sha256=sha256(data))
