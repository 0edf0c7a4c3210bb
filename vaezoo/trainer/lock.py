"""The lock of a run's folder: one process at a time writes into it."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vaezoo.errors import CheckpointError
from vaezoo.storage.files import make_folder, write_file
from vaezoo.storage.json_files import canonical

LOCK, OWNER = "run.lock", "run.owner.json"
DYING = 10.0  # seconds: children of a killed process, which share its lock, end soon after it


@contextmanager
def locked(folder: Path, use: str = "training") -> Iterator[None]:
    """Holds the lock of a folder, which is created, for the block; the operating system releases it after a crash.

    Args:
        folder: the folder.
        use: of the folder, for messages.

    Raises:
        CheckpointError: another process holds it, which is named; or the folder cannot be written.
    """
    make_folder(folder)
    lock = FileLock(folder / LOCK)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            lock.acquire(timeout=DYING if owner_has_ended(folder) else 0)
    except Timeout:
        raise CheckpointError(
            f"{folder} is in use by another {use} ({owner_text(folder)}). Wait until it has ended, stop it, or "
            "choose another folder (--out)."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise CheckpointError(
            f"Could not write {folder / LOCK} (0 bytes): {error}. Choose another folder (--out)."
        ) from None
    try:
        write_file(folder / OWNER, canonical({"host": platform.node(), "pid": os.getpid()}).encode())
        yield
    finally:
        with suppress(OSError):
            (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def owner_of(folder: Path) -> tuple[str, int] | None:
    """Returns host and process of the owner of a folder's lock, as it wrote them; None if they cannot be read."""
    try:
        facts = json.loads((folder / OWNER).read_bytes()[:4096])
        return str(facts["host"])[:100], int(facts["pid"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def owner_text(folder: Path) -> str:
    """Returns the owner of a folder's lock for a message."""
    owner = owner_of(folder)
    return "its process is not recorded" if owner is None else f"process {owner[1]} on {owner[0]!r}"


def owner_has_ended(folder: Path) -> bool:
    """Returns whether the recorded owner is a process of this host that no longer exists."""
    owner = owner_of(folder)
    if owner is None or owner[0] != platform.node() or os.name == "nt":
        return False
    try:
        os.kill(owner[1], 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False
