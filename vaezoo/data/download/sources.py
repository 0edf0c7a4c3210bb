"""Sources of data files. No source is trusted: `cache` verifies every file that one of them returns."""

import gzip
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from vaezoo.core import require

TIMEOUT = 5.0  # seconds without an answer after which a mirror is skipped


class SourceError(Exception):
    """The reason why a source did not return a file. Internal: `cache` collects the reasons."""


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of a data set: name, and size and SHA-256 of its uncompressed bytes."""

    name: str
    size: int
    sha256: str


class Source(Protocol):
    """A place that may have the files."""

    @property
    def title(self) -> str:
        """The source's name in messages."""

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Writes `files` into `folder`, uncompressed and under their names.

        Raises:
            SourceError: At least one file is unavailable; the others may be in the folder.
        """


@dataclass(frozen=True)
class Mirror:
    """A web server that has the gzipped files under one address (http or https)."""

    address: str

    @property
    def title(self) -> str:
        """The address."""
        return f"mirror {self.address}"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Downloads and unpacks each file."""
        download = require("pooch", "pooch", "Downloading").HTTPDownloader(timeout=TIMEOUT, chunk_size=2**20)
        for file in files:
            packed = folder / f"{file.name}.gz"
            try:
                download(f"{self.address}{packed.name}", str(packed), None)
            except (OSError, ValueError) as error:  # the errors of requests
                reason = str(error).partition("(Caused by ")[2].rstrip(")") or str(error)
                raise SourceError(f"{packed.name}: {reason}") from error
            unpack(packed, file, folder)


@dataclass(frozen=True)
class Folder:
    """A local folder with files, gzipped or not, that the user downloaded."""

    path: Path

    @property
    def title(self) -> str:
        """The path."""
        return f"folder {self.path}"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Copies or unpacks each file."""
        for file in files:
            take(file, self.path.iterdir() if self.path.is_dir() else (), folder)


def take(file: DataFile, paths: Iterable[Path], folder: Path) -> None:
    """Copies `file`, or unpacks `NAME.gz`, from one of `paths` into `folder`; raises SourceError if there is none."""
    found = {path.name: path for path in paths}
    path = found.get(file.name) or found.get(f"{file.name}.gz")
    if path is None:
        raise SourceError(f"has neither {file.name} nor {file.name}.gz")
    unpack(path, file, folder)


def unpack(path: Path, file: DataFile, folder: Path) -> None:
    """Writes the content of `path`, which may be gzipped, to `folder/file.name`; raises SourceError if damaged."""
    try:
        with cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as source:
            write(source, file, folder)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(f"{path.name}: {error}") from error


def write(source: IO[bytes], file: DataFile, folder: Path) -> None:
    """Writes a stream to `folder/file.name`; raises SourceError after one byte more than the expected size."""
    data = source.read(file.size + 1)
    if len(data) > file.size:
        raise SourceError(f"{file.name}: got more than the expected {file.size:,} bytes")
    (folder / file.name).write_bytes(data)
