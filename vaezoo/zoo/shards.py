"""Weights in one file or, where they are large, in several: how they are cut up, and how a config records them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, cast

from safetensors.torch import save as pack_tensors
from torch import Tensor

from vaezoo.checkpoint import sha256
from vaezoo.errors import ConfigError, CorruptWeightsError, shorten

__all__ = ["ONE_FILE", "SHARD", "SHARD_NAME", "WeightFile", "is_weights", "packed", "recorded", "weight_files"]

ONE_FILE = "model.safetensors"
SHARD_NAME = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")
SHARD = 2 * 10**9  # bytes of tensors in a file
MOST = 2**40  # bytes of a file


class WeightFile(NamedTuple):
    """A file of weights as a config records it."""

    name: str
    size: int
    sha256: str


def file_names(count: int) -> list[str]:
    """Returns the names of the weights in `count` files."""
    return [ONE_FILE] if count == 1 else [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]


def is_weights(name: str) -> bool:
    """Says whether a file of this name holds weights."""
    return name == ONE_FILE or SHARD_NAME.fullmatch(name) is not None


def packed(state: Mapping[str, Tensor], shard: int) -> Iterator[tuple[str, bytes]]:
    """Yields name and bytes of each file: tensors in the order of their names, at most `shard` bytes of them in a file.

    A tensor is never cut: one that is larger has a file of its own.

    Raises:
        ConfigError: `shard` is no positive number of bytes.
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
    """Returns the format's number and what a config says of these files: 1 for one file, 2 for several."""
    tables: list[object] = [{"file": file.name, "size": file.size, "sha256": file.sha256} for file in files]
    return (1, cast(dict[str, object], tables[0])) if len(files) == 1 else (2, {"files": tables})


def weight_files(config: Mapping[str, object], name: str) -> list[WeightFile]:
    """Returns the files of weights that a config of the model `name` records; their names are ours, not the config's.

    Raises:
        CorruptWeightsError: it records them in another way than `recorded`.
    """
    facts = config["weights"]
    tables = [facts]
    if config["format"] == 2:
        tables = cast(list[object], facts.get("files")) if isinstance(facts, dict) and set(facts) == {"files"} else []
        if not isinstance(tables, list) or len(tables) < 2:
            raise CorruptWeightsError(f"{name} says nothing of its weights: got {shorten(facts)}. Fetch it again.")
    files = []
    for expected, table in zip(file_names(len(tables)), tables, strict=True):
        known = table if isinstance(table, dict) and set(table) == {"file", "size", "sha256"} else {}
        size, digest = known.get("size"), known.get("sha256")
        counted = type(size) is int and 0 < size <= MOST
        if known.get("file") != expected or not counted or not re.fullmatch("[0-9a-f]{64}", str(digest)):
            raise CorruptWeightsError(
                f"{name} says {shorten(table)} of its weights; expected size and SHA-256 of {expected}. Fetch it again."
            )
        files.append(WeightFile(expected, cast(int, size), str(digest)))
    return files


def file_of(name: str, data: bytes) -> WeightFile:
    """Returns what is recorded of a file."""
    return WeightFile(name, len(data), sha256(data))
