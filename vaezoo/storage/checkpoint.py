"""Crash-safe folders of safetensors and JSON, without pickle.

A folder is written under a temporary name, each file flushed to disk, the manifest with size and SHA-256 of each file
last, and then renamed: a folder with its final name is complete. Reading verifies every file.
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor

from vaezoo.errors import CheckpointError, CorruptWeightsError, shorten
from vaezoo.storage.config import Count, Hash, Strict
from vaezoo.storage.files import flush, put
from vaezoo.storage.json_files import LARGEST_JSON, canonical, parse_json, read_bytes, sha256

MANIFEST, FORMAT = "manifest.json", 1
FILE_NAME = re.compile(r"[a-z_]+\.(safetensors|json)")
STEP_NAME = re.compile(r"step-([0-9]+)")
LEFT_BEHIND = re.compile(r"\.tmp-step-[0-9]+-[0-9a-f]{8}(-old)?|\..+\.[0-9a-f]{32}")


Limit = Callable[[Mapping[str, object]], int]  # see `read_folder`


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The content of a checkpoint folder: named groups of tensors, and a state of JSON values."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, object]


class Listed(Strict, frozen=True):
    """Size and SHA-256 of a file."""

    size: Count
    sha256: Hash


class Manifest(Strict, frozen=True):
    """The content of `manifest.json`."""

    format: Literal[1]
    files: dict[str, Listed]


def write_folder(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint as the folder `path`, which appears only when it is complete.

    Raises:
        CheckpointError: disk full, no permission; a previous folder is unchanged.
    """
    files = {
        # Files are row-major, also for channels-last tensors.
        f"{name}.safetensors": pack_tensors({key: tensor.contiguous() for key, tensor in group.items()})
        for name, group in checkpoint.tensors.items()
    }
    files["state.json"] = canonical(checkpoint.state).encode()
    listing = {name: {"size": len(data), "sha256": sha256(data)} for name, data in files.items()}
    files[MANIFEST] = canonical({"format": FORMAT, "files": listing}).encode()
    temporary, replaced = (path.parent / f".tmp-{path.name}-{uuid.uuid4().hex[:8]}{end}" for end in ("", "-old"))
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            put(temporary / name, data)
        flush(temporary)
        if path.exists():
            os.rename(path, replaced)
        os.rename(temporary, path)
        flush(path.parent)
    except OSError as error:
        size = sum(len(data) for data in files.values())
        raise CheckpointError(
            f"Could not write {path} ({size:,} bytes): {error}. The previous folder is intact. Free space, or choose "
            "another folder."
        ) from None
    finally:
        if replaced.exists() and not path.exists():
            os.rename(replaced, path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def limit_for(numbers: int) -> int:
    """Returns the most bytes in the tensors of a checkpoint of a model with so many numbers.

    These are its weights, averages, best weights and up to five moments of an optimizer, eight bytes for each number.
    """
    return 64 * numbers + 2**20


def read_folder(path: Path, limit: Limit | None = None) -> Checkpoint:
    """Returns a checkpoint folder's verified content.

    Args:
        path: the folder.
        limit: validates the state, and returns the most bytes that files of tensors may have with it; a sparse file
            of any size takes no space on the disk. None does not limit them.

    Raises:
        CorruptWeightsError: a file is missing, damaged or too large.
    """
    listing = read_manifest(path)
    if "state.json" not in listing:
        raise CorruptWeightsError(f"{path.name}/state.json is missing.")
    state = parse_json(read_listed(path, "state.json", listing["state.json"]), f"{path.name}/state.json")
    if not isinstance(state, dict):
        raise CorruptWeightsError(f"{path.name}/state.json holds no table.")
    names = [name for name in listing if name != "state.json"]
    total, most = sum(listing[name].size for name in names), None if limit is None else limit(state)
    if most is not None and total > most:
        raise CorruptWeightsError(f"{path.name} has {total:,} bytes of tensors; expected at most {most:,}.")
    tensors: dict[str, Mapping[str, Tensor]] = {}
    for name in names:
        data = read_listed(path, name, listing[name])
        try:
            tensors[name.removesuffix(".safetensors")] = parse_tensors(data)
        except SafetensorError as error:
            raise CorruptWeightsError(f"{path.name}/{name} holds no tensors: {error}.") from None
    return Checkpoint(tensors=tensors, state=state)


def read_listed(path: Path, name: str, facts: Listed) -> bytes:
    """Returns the bytes of a file of a manifest; raises CorruptWeightsError if size or SHA-256 are others."""
    data = read_bytes(path / name, LARGEST_JSON if name == "state.json" else facts.size)
    if len(data) != facts.size or sha256(data) != facts.sha256:
        raise CorruptWeightsError(f"{path.name}/{name} is not the file that was written: size or SHA-256 differs.")
    return data


def read_manifest(path: Path) -> dict[str, Listed]:
    """Returns size and SHA-256 of each file of a checkpoint folder, by name.

    Raises:
        CorruptWeightsError: it is missing or malformed.
    """
    content = parse_json(read_bytes(path / MANIFEST, LARGEST_JSON), f"{path.name}/{MANIFEST}")
    try:
        listing = msgspec.convert(content, Manifest, strict=True).files
    except (msgspec.ValidationError, OverflowError) as error:
        text = f"{path.name}/{MANIFEST} is not a manifest of format {FORMAT}: {str(error)[:300]}."
        raise CorruptWeightsError(text) from None
    for name in listing:
        if not FILE_NAME.fullmatch(name):
            raise CorruptWeightsError(f"{path.name}/{MANIFEST} names a file outside its folder: {shorten(name)}.")
    return listing


def listed(folder: Path) -> list[Path]:
    """Returns the `step-…` folders of a folder, the newest first."""
    found = [path for path in folder.glob("step-*") if STEP_NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """Returns the step in the name of a `step-…` folder."""
    return int(path.name.removeprefix("step-"))


def newest(folder: Path, limit: Limit | None = None) -> tuple[Path, Checkpoint, list[str]] | None:
    """Returns the newest valid `step-…` checkpoint of a folder, with a warning for each broken one passed over.

    `limit` is that of `read_folder`.

    Raises:
        CheckpointError: there are checkpoints, but none is valid.
    """
    steps, warnings = listed(folder), list[str]()
    for path in steps:
        try:
            return path, read_folder(path, limit), warnings
        except (CheckpointError, CorruptWeightsError) as error:
            warnings.append(f"Passed over a broken checkpoint: {error}")
    if steps:
        text = f"None of the {len(steps)} checkpoints in {folder} is valid; start again in another folder."
        raise CheckpointError("\n".join([text, *warnings]))
    return None


def prune(folder: Path, keep: int, last: int | None = None) -> None:
    """Removes all but the newest `keep` checkpoints, and the temporary files of crashed writes.

    Args:
        folder: of the checkpoints.
        keep: the number of checkpoints to keep.
        last: the step that was just saved. Folders of later steps are broken and do not count.
    """
    steps = listed(folder)
    kept = [path for path in steps if last is None or step_of(path) <= last][:keep]
    for path in steps:
        if path not in kept:
            with suppress(OSError):
                # Renamed first, so that a partly removed folder is not taken for a checkpoint.
                os.rename(path, path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:8]}-old"))
    remove_stale_files(folder)


def remove_stale_files(folder: Path) -> None:
    """Removes the temporary files of crashed writes from a folder."""
    for path in [path for path in folder.glob(".*") if LEFT_BEHIND.fullmatch(path.name)]:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.unlink()  # a file
