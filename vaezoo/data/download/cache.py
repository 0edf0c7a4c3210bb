"""The cache of verified files: each has its recorded SHA-256, whichever source returned it."""

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
    """The files of one data set and the sources to try, in order, for those that the cache lacks."""

    name: str
    files: tuple[DataFile, ...]
    sources: tuple[Source, ...]


def ensure(
    collection: Collection,
    *,
    cache: Path,
    files: Sequence[DataFile] | None = None,
    download: bool = True,
    report: Report | None = None,
) -> list[Path]:
    """Returns the paths of verified files in `cache/data/NAME`; fetches those that are missing or damaged.

    Safe for concurrent processes: one fetches, the others wait for it. Files are written atomically.

    Args:
        collection: Files and sources of the data set.
        cache: Root of the cache.
        files: The files of the collection to return; None means all.
        download: Whether to try the sources; False reads only the cache.
        report: Called with a line for each source that was tried; None logs these lines at debug level.

    Raises:
        DownloadError: A file is missing and no source has it; lists each source with its reason.
    """
    files = collection.files if files is None else files
    folder = cache / "data" / collection.name
    missing = _missing(folder, files)
    if missing and not download:
        raise _failure(collection.name, folder, missing, ["no source was tried, as download=False"])
    if missing:
        with locked(folder):
            _fetch(collection, folder, missing, report or logging.getLogger(__name__).debug)
    return [folder / file.name for file in files]


def _is_genuine(path: Path, file: DataFile) -> bool:
    try:
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            return size == file.size and hashlib.file_digest(source, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def _missing(folder: Path, files: Sequence[DataFile]) -> list[DataFile]:
    return [file for file in files if not _is_genuine(folder / file.name, file)]


def _fetch(collection: Collection, folder: Path, files: Sequence[DataFile], report: Report) -> None:
    """Tries one source after the other until nothing is missing; the caller holds the folder's lock."""
    for stale in folder.glob(".fetch-*"):  # left by a process that was killed: nobody else holds the lock
        shutil.rmtree(stale, ignore_errors=True)
    reasons, missing = list[str](), _missing(folder, files)
    for file in missing:
        if (folder / file.name).is_file():
            (folder / file.name).unlink()
            reasons.append(f"cache: {file.name} had the wrong SHA-256 and was deleted")
    for source in (Folder(folder), *collection.sources):
        if not missing:
            return
        before, failures = len(missing), list[str]()
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder, ignore_cleanup_errors=True) as work:
            try:
                source.fetch(missing, Path(work))
            except (SourceError, ImportError, OSError) as error:
                failures.append(str(error))
            missing, wrong = _adopt(missing, Path(work), folder)
        reason = "; ".join(wrong + failures) or "all files"
        reasons.append(f"{source.title}: {before - len(missing)} of {before} file(s): {reason}")
        report(f"{collection.name}: {reasons[-1]}")
    if missing:
        raise _failure(collection.name, folder, missing, reasons)


def _adopt(files: Sequence[DataFile], work: Path, folder: Path) -> tuple[list[DataFile], list[str]]:
    """Moves verified files from `work` into the cache; returns the missing files and a reason for each wrong one."""
    missing = _missing(work, files)
    for file in files:
        if file not in missing:
            with (work / file.name).open("rb+") as written:
                os.fsync(written.fileno())
            os.replace(work / file.name, folder / file.name)
    return missing, [f"{file.name} has the wrong SHA-256" for file in missing if (work / file.name).is_file()]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time change a folder; the operating system releases the lock of a process that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise DownloadError(
            f"{folder} was locked by another process for {_LOCK_SECONDS:.0f} s. Wait for it or end it, then retry."
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
    lines += [f"Put these files (or NAME.gz) into {folder} by hand, then retry with download=True:"]
    lines += [f"  - {file.name}  (uncompressed: {file.size:,} bytes, sha256 {file.sha256})" for file in missing]
    return DownloadError("\n".join(lines))
