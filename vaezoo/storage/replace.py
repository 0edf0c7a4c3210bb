"""Writes the files of a model so that a folder holds the previous or the new model at every moment.

Readers open the config first. Where it records another model, the new weights are written under spare names, and the
config that records these replaces the previous one. Then the weights get their usual names in the same way.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from vaezoo.errors import CheckpointError, CorruptWeightsError
from vaezoo.storage.config import CONFIG, SHARDS, SPARE, WEIGHTS, check_config, read_config, spare_name
from vaezoo.storage.files import flush, make_folder, write_file
from vaezoo.storage.json_files import seal
from vaezoo.storage.weight_files import record_of, weights_fields

T = TypeVar("T")
ATTEMPTS = 10


def put_model(
    folder: Path, body: Mapping[str, object], files: Iterable[tuple[str, bytes]], others: Mapping[str, bytes | None]
) -> None:
    """Writes a model into a folder; see the module's docstring.

    Args:
        folder: created if it is missing.
        body: the config without the records of its weights.
        files: name and bytes of each file of weights.
        others: bytes of files beside them; None removes one.

    Raises:
        ConfigError: the config is invalid.
        CheckpointError: disk full, no permission; the previous model is intact.
    """
    make_folder(folder)
    replaces = (folder / CONFIG).exists()
    records = []
    for name, data in files:
        record = record_of(name, data)
        write_file(folder / (spare_name(str(record["sha256"])) if replaces else name), data)
        records.append(record)
    if replaces:
        spare = [{**record, "file": spare_name(str(record["sha256"]))} for record in records]
        put_config(folder, {**body, **weights_fields(spare)})
    for name, content in others.items():
        if content is not None:
            write_file(folder / name, content)
        else:
            remove(folder / name)
    if replaces:
        for record in records:
            also_named(folder / spare_name(str(record["sha256"])), folder / str(record["file"]))
    put_config(folder, {**body, **weights_fields(records)})
    for path in (folder / WEIGHTS, *folder.glob(SHARDS), *folder.glob(SPARE)):
        if path.name not in [each["file"] for each in records]:  # of a previous model
            remove(path)


def put_config(folder: Path, body: Mapping[str, object]) -> None:
    """Writes a valid config."""
    check_config(body)
    write_file(folder / CONFIG, seal(body))


def remove(path: Path) -> None:
    """Removes a file if it exists and that is permitted."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def also_named(path: Path, name: Path) -> None:
    """Replaces the file `name` by another name of `path`, or by a copy on disks without hard links."""
    temporary = name.with_name(f".{name.name}.{uuid.uuid4().hex}")
    try:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
            flush(temporary)
        os.replace(temporary, name)
        flush(name.parent)
    except OSError as error:
        raise CheckpointError(f"Could not write {name}: {error}. Free space; the new model is in {path}.") from None
    finally:
        remove(temporary)


def read_whole(folder: Path, read: Callable[[dict[str, object]], T]) -> T:
    """Returns `read(config)` of one model, the previous or the new one, while another process replaces it.

    Raises:
        CorruptWeightsError: the folder is damaged; otherwise see `read_config` and `read`.
    """
    for attempt in range(ATTEMPTS):
        before = written_at(folder)
        try:
            return read(read_config(folder))
        except CorruptWeightsError:
            if attempt == ATTEMPTS - 1 or written_at(folder) == before:
                raise
    raise AssertionError("unreachable")


def written_at(folder: Path) -> tuple[int, int] | None:
    """Returns inode and time of a folder's config, which change whenever it is replaced; None if there is none."""
    try:
        status = (folder / CONFIG).stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns
