"""The cache of verified files: what is in it has the recorded SHA-256, whatever brought it."""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from vaezoo.data.download.sources import DataFile, Folder, Source, SourceError
from vaezoo.errors import DownloadError

Report = Callable[[str], None]

_LOCK_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The files of one data set and the sources to ask for them, in order, when the cache lacks them."""

    name: str
    files: tuple[DataFile, ...]
    sources: tuple[Source, ...]


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the cache folder: `cache_dir`, else `$VAEZOO_HOME`, else `vaezoo` in the user's cache folder."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    if home := os.environ.get("VAEZOO_HOME"):
        return Path(home).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "vaezoo"


def ensure(
    collection: Collection,
    *,
    cache: Path,
    files: Sequence[DataFile] | None = None,
    download: bool = True,
    report: Report | None = None,
) -> list[Path]:
    """Returns the paths of verified files in `cache/data/NAME`, fetching those that are missing or wrong.

    Safe for several processes at once: one fetches, the others wait for it; a file appears whole or not at all.

    Args:
        collection: The data set's files and sources.
        cache: The cache's root.
        files: Those of the collection's files that are wanted; None means all.
        download: Whether sources other than the cache may be asked.
        report: Called with a line for each source tried; None logs them.

    Raises:
        DownloadError: A file is missing and no source brought it; lists each source with its reason.
    """
    wanted = collection.files if files is None else files
    folder = cache / "data" / collection.name
    say = report or logging.getLogger(__name__).info
    missing = [file for file in wanted if not is_genuine(folder / file.name, file)]
    if missing and not download:
        raise _failure(collection.name, folder, missing, ["no source was asked, as download=False"])
    if missing:
        with _locked(folder):
            _fetch(collection, folder, missing, say)
    else:
        say(f"{collection.name}: cache {folder}: {len(wanted)} verified file(s)")
    return [folder / file.name for file in wanted]


def is_genuine(path: Path, file: DataFile) -> bool:
    """Returns whether `path` is a file of the recorded size and SHA-256."""
    try:
        with path.open("rb") as source:
            if os.fstat(source.fileno()).st_size != file.size:
                return False
            return hashlib.file_digest(source, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _fetch(collection: Collection, folder: Path, missing: Sequence[DataFile], say: Report) -> None:
    """Asks one source after the other until nothing is missing; the caller holds the folder's lock."""
    name, reasons = collection.name, list[str]()
    for stale in folder.glob(".fetch-*"):  # of a process that was killed: no other one holds the lock now
        shutil.rmtree(stale, ignore_errors=True)
    missing = _discard_wrong(name, folder, missing, say, reasons)
    for source in (Folder(folder), *collection.sources):
        if not missing:
            return
        before = len(missing)
        say(f"{name}: {source.title}: asked for {before} file(s)")
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder, ignore_cleanup_errors=True) as work:
            outcome = _ask(source, missing, Path(work))
            missing, wrong = _adopt(missing, Path(work), folder)
        reason = "; ".join([*wrong, *([outcome] if outcome else [])])
        got = f"{before - len(missing)} of {before} file(s)"
        say(f"{name}: {source.title}: {got}{': ' + reason if reason else ''}")
        reasons.append(f"{source.title}: {reason or got}")
    if missing:
        raise _failure(name, folder, missing, reasons)


def _discard_wrong(
    name: str, folder: Path, files: Sequence[DataFile], say: Report, reasons: list[str]
) -> list[DataFile]:
    """Returns which files are missing now that the lock is held, and deletes wrong ones."""
    missing = [file for file in files if not is_genuine(folder / file.name, file)]
    for file in missing:
        path = folder / file.name
        if path.is_file():
            path.unlink(missing_ok=True)
            reasons.append(f"cache: {file.name} had the wrong SHA-256 and was deleted")
            say(f"{name}: {reasons[-1]}")
    return missing


def _ask(source: Source, missing: Sequence[DataFile], work: Path) -> str:
    """Returns why the source did not bring every file, or nothing."""
    try:
        source.fetch(missing, work)
    except (SourceError, ImportError, OSError) as error:
        return str(error)
    return ""


def _adopt(files: Sequence[DataFile], work: Path, folder: Path) -> tuple[list[DataFile], list[str]]:
    """Moves verified files from `work` into the cache; returns those still missing and what was wrong with any."""
    missing, wrong = [], []
    for file in files:
        path = work / file.name
        if is_genuine(path, file):
            with path.open("rb+") as written:
                os.fsync(written.fileno())
            os.replace(path, folder / file.name)
            continue
        missing.append(file)
        if path.is_file():
            wrong.append(f"{file.name} has the wrong SHA-256")
    return missing, wrong


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time change a folder; the operating system frees the lock of a process that dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise DownloadError(
            f"{folder} stayed locked by another process for {_LOCK_SECONDS:.0f} s. Wait for it or end it, then retry."
        ) from error
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"The cache folder {folder} cannot be written ({error}). Free some space or set VAEZOO_HOME to a folder "
            "that you may write to."
        ) from error


def _failure(name: str, folder: Path, missing: Sequence[DataFile], reasons: Sequence[str]) -> DownloadError:
    lines = [f"{name}: got no verified copy of {len(missing)} file(s). Sources tried:"]
    lines += [f"  - {reason}" for reason in reasons]
    lines += [f"To go on, put these files (or NAME.gz) into {folder} by hand, then retry with download allowed:"]
    lines += [f"  - {file.name}  (uncompressed: {file.size:,} bytes, sha256 {file.sha256})" for file in missing]
    return DownloadError("\n".join(lines))
