"""What of ours is on this machine: the copies in the Hub's cache, and whether they and the bundled models are whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vaezoo.errors import ConfigError, CorruptWeightsError, UnknownNameError, VaezooError
from vaezoo.hub.client import Repository, hub_errors, the_client
from vaezoo.hub.remote import on_the_hub
from vaezoo.storage.config import CONFIG
from vaezoo.storage.model_folder import CARD, verified_folder
from vaezoo.zoo.index import list_models, verified

__all__ = ["CachedModel", "list_cached", "remove", "verify"]

T = TypeVar("T")
BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
HEAD = 2**20  # bytes in which a file must show that it is ours


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """A commit of a repository in the Hub's cache: its folder, and the size of its files in bytes."""

    repository: str
    commit: str
    folder: Path
    size: int

    def __str__(self) -> str:
        """Returns what `load` takes."""
        return f"hf:{self.repository}@{self.commit}"


def list_cached(cache_dir: str | Path | None = None) -> list[CachedModel]:
    """Returns the copies of vaezoo's models in the Hub's cache; those of other libraries are left out.

    Args:
        cache_dir: where copies are kept; the Hub's own cache (`HF_HOME`) where None.
    """
    return [
        CachedModel(
            repository="/".join(folder.parent.parent.name.split("--")[1:]),
            commit=folder.name,
            folder=folder,
            size=sum(path.stat().st_size for path in files_of(folder)),
        )
        for folder in sorted(root_of(cache_dir).glob("models--*/snapshots/*"))
        if is_ours(folder)
    ]


def root_of(cache_dir: str | Path | None) -> Path:
    """Returns where copies are kept."""
    return Path(cache_dir if cache_dir is not None else the_client().constants.HF_HUB_CACHE)


def files_of(folder: Path) -> list[Path]:
    """Returns the files of a copy that are there."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def is_ours(folder: Path) -> bool:
    """Says whether config or card show that a folder holds a model of vaezoo; one of them may be damaged."""
    for file, mark in ((CONFIG, b'"vaezoo"'), (CARD, b"library_name: vaezoo")):
        if (folder / file).is_file():
            with open(folder / file, "rb") as opened:
                if mark in opened.read(HEAD):
                    return True
    return False


def verify(cache_dir: str | Path | None = None, say: Callable[[str], object] | None = None) -> int:
    """Reads every byte of the bundled models and of those in the Hub's cache again; returns how many models are whole.

    Args:
        cache_dir: see `cached`.
        say: told one line for each model.

    Raises:
        CorruptWeightsError: some are not; with each of them, what is wrong, and what to do.
    """
    problems, count = [], 0
    for name, problem in findings(cache_dir):
        count += 1
        if say is not None:
            say(f"{'damaged' if problem else 'whole':8}{name}")
        if problem:
            problems.append(f"{name}: {problem}")
    if problems:
        raise CorruptWeightsError(
            f"{len(problems)} of {count} models are damaged. What is in the cache is fetched again by `vaezoo pull "
            "NAME`; what is bundled needs vaezoo installed again.\n" + "\n".join(problems)
        )
    return count


def findings(cache_dir: str | Path | None) -> Iterator[tuple[str, str]]:
    """Yields each model and what is wrong with it, or an empty text."""
    for name in list_models():
        if on_the_hub(name) is None:
            yield name, problem_of(check_bundled, name)
    for copy in list_cached(cache_dir):
        yield str(copy), problem_of(check_copy, copy.folder)


def problem_of(check: Callable[[T], object], what: T) -> str:
    """Returns what a check complains of, or an empty text."""
    try:
        check(what)
    except VaezooError as error:
        return str(error)
    return ""


def check_bundled(name: str) -> None:
    """Compares a bundled model with the index and with its config."""
    verified_folder(verified(name))


def check_copy(folder: Path) -> None:
    """Compares the files of a copy with their names in the cache, which are their hashes, and with its config.

    Raises:
        CorruptWeightsError: a file is not what it was.
    """
    for path in files_of(folder):
        blob = path.resolve()
        if BLOB.fullmatch(blob.name) and hash_of(blob) != blob.name:
            raise CorruptWeightsError(f"{path.name} is not the file that was fetched: its hash differs.")
    verified_folder(folder)


def hash_of(blob: Path) -> str:
    """Returns the hash after which the Hub names a file: SHA-256 for large ones, git's for the others."""
    with open(blob, "rb") as file:
        if len(blob.name) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)
        while piece := file.read(2**20):
            digest.update(piece)
        return digest.hexdigest()


def remove(name: str, cache_dir: str | Path | None = None) -> int:
    """Removes a model's copies from the Hub's cache, and returns how many bytes that freed.

    Args:
        name: "hf:owner/name" for all its commits, "hf:owner/name@COMMIT" for one, or a pretrained model's name.
        cache_dir: see `cached`.

    Raises:
        UnknownNameError: there is no such copy; with the closest names.
        ConfigError: it is bundled, or a malformed repository.
    """
    remote = on_the_hub(name)
    if remote is None and name in list_models():
        raise ConfigError(f"{name} comes with the package; only what was fetched from the Hub can be removed.")
    wanted = remote.repository if remote is not None else Repository.of(f"hf:{name}")
    copies = list_cached(cache_dir)
    chosen = [copy for copy in copies if copy.repository == wanted.name and wanted.revision in (None, copy.commit)]
    if not chosen:
        raise UnknownNameError("model in the Hub's cache", str(wanted), [f"hf:{copy.repository}" for copy in copies])
    with hub_errors(f"{wanted} could not be removed"):
        found = the_client().scan_cache_dir(root_of(cache_dir))
        plan = found.delete_revisions(*(copy.commit for copy in chosen))
        plan.execute()
    return int(plan.expected_freed_size)
