"""Files that are written atomically and flushed to disk."""

import os
import uuid
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vaezoo.errors import CheckpointError


def library_version() -> str:
    """Returns the version of vaezoo."""
    try:
        return version("vaezoo")
    except PackageNotFoundError:
        return "0+unknown"


def make_folder(path: Path) -> None:
    """Creates a folder that may exist; raises CheckpointError if that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"Could not make {path}: {error}. Choose another folder.") from None


def flush(path: Path) -> None:
    """Flushes a file or folder to disk; Windows does not support that for folders."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put(path: Path, data: bytes) -> None:
    """Writes a new file and flushes it to disk; its mode follows the umask."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_file(path: Path, data: bytes) -> None:
    """Replaces a file atomically and flushes it to disk; replaces a symlink, not its target.

    Raises:
        CheckpointError: disk full, no permission; a previous file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        put(temporary, data)
        os.replace(temporary, path)
        flush(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"Could not write {path} ({len(data):,} bytes): {error}. Free space, or choose another folder."
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
