"""The folder of a run: its name, and a record of where its data are on this machine."""

import json
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path

from vaezoo.errors import CheckpointError
from vaezoo.recipe import Recipe
from vaezoo.storage.files import make_folder, write_file
from vaezoo.storage.json_files import canonical

RUNS = Path("runs")
LOCAL = "local.json"  # never published: it has a path of this machine


def auto_folder(recipe: Recipe, resume: bool) -> Path:
    """Creates the first of runs/NAME, runs/NAME-2, … that does not exist; to resume, returns the last one that does.

    Processes that start at the same time get different folders.

    Raises:
        CheckpointError: the folder cannot be created.
    """
    name = re.sub(r"[^\w.+-]+", "-", recipe.name).strip(".-")[:100] or recipe.variant

    def folders() -> Iterator[Path]:
        return (RUNS / (name if number == 1 else f"{name}-{number}") for number in count(1))

    if resume and (existing := list(takewhile(Path.exists, folders()))):
        return existing[-1]
    make_folder(RUNS)
    for folder in folders():
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise CheckpointError(f"Could not create {folder}: {error}. Choose another folder (--out).") from None
        return folder
    raise AssertionError


@contextmanager
def removed_if_empty(folder: Path | None) -> Iterator[None]:
    """Removes the folder after an error if nothing was written into it."""
    try:
        yield
    except BaseException:
        if folder is not None:
            with suppress(OSError):
                folder.rmdir()  # fails unless it is empty
        raise


def record_data(folder: Path, data: object) -> None:
    """Records the name of a run's data, with an absolute path, together with the identity of the folder.

    Data that have no name are not recorded.
    """
    if not isinstance(data, str):
        with suppress(OSError):
            (folder / LOCAL).unlink(missing_ok=True)
        return
    if data.startswith("folder:"):
        data = f"folder:{Path(data.removeprefix('folder:')).expanduser().absolute()}"
    write_file(folder / LOCAL, canonical({"data": data, **identity(folder)}).encode("utf-8", "surrogateescape"))


def recorded_data(folder: Path) -> str | None:
    """Returns the data set of a run that was trained in this very folder on this machine; None for any other folder.

    A folder that was copied, downloaded or unpacked has another identity, so that a path in it is never opened.
    """
    try:
        facts = json.loads((folder / LOCAL).read_bytes()[:65_536].decode("utf-8", "surrogateescape"))
        data = facts.pop("data")
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return data if facts == identity(folder) and isinstance(data, str) else None


def identity(folder: Path) -> dict[str, object]:
    """Returns what identifies a folder on this machine: host, owner and number of the folder in its file system."""
    facts = folder.stat()
    return {"host": platform.node(), "inode": facts.st_ino, "owner": facts.st_uid}
