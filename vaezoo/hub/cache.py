"""Lists, verifies and removes cached models."""

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vaezoo.core import expanded
from vaezoo.errors import ConfigError, CorruptWeightsError, UnknownNameError, VaezooError
from vaezoo.hub.client import Repository, hub_errors, the_client
from vaezoo.hub.remote import on_the_hub
from vaezoo.storage.config import CONFIG
from vaezoo.storage.model_folder import CARD, verified_folder
from vaezoo.zoo.index import bundled_models, verified

BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
MARKS = {CONFIG: b'"vaezoo"', CARD: b"library_name: vaezoo"}  # either file may be damaged
HEAD = 2**20  # bytes of a file that are searched for its mark


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """A commit of a repository in the Hub's cache, its folder, and the size of its files in bytes."""

    repository: str
    commit: str
    folder: Path
    size: int

    def __str__(self) -> str:
        """Returns the name that `load` takes."""
        return f"hf:{self.repository}@{self.commit}"


def list_cached(cache_dir: str | Path | None = None) -> list[CachedModel]:
    """Returns the models of vaezoo in the Hub's cache; those of other libraries are left out.

    Args:
        cache_dir: the folder of cached files; None for the Hub's own cache (`HF_HOME`).
    """
    # Not `scan_cache_dir`: it omits repositories with a missing blob, which `verify` has to report.
    return [
        CachedModel(
            repository="/".join(folder.parent.parent.name.split("--")[1:]),
            commit=folder.name,
            folder=folder,
            size=sum(path.stat().st_size for path in files_of(folder)),
        )
        for folder in sorted(cache_root(cache_dir).glob("models--*/snapshots/*"))
        if is_ours(folder)
    ]


def cache_root(cache_dir: str | Path | None) -> Path:
    """Returns the folder of cached files."""
    return expanded(the_client().constants.HF_HUB_CACHE if cache_dir is None else cache_dir)


def files_of(folder: Path) -> list[Path]:
    """Returns the existing files of a cached commit."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def is_ours(folder: Path) -> bool:
    """Returns whether a folder's config or card shows that it holds a model of vaezoo."""
    for file, mark in MARKS.items():
        with suppress(OSError), open(folder / file, "rb") as opened:
            if mark in opened.read(HEAD):
                return True
    return False


def verify(cache_dir: str | Path | None = None, say: Callable[[str], object] | None = None) -> int:
    """Reads every byte of the bundled and the cached models again; returns the number of undamaged models.

    Args:
        cache_dir: see `list_cached`.
        say: receives one line for each model.

    Raises:
        CorruptWeightsError: some are damaged; lists each with its defect and what to do.
    """
    folders: dict[str, Path | None] = dict.fromkeys(bundled_models())
    folders |= {str(copy): copy.folder for copy in list_cached(cache_dir)}
    problems = []
    for name, folder in folders.items():
        problem = ""
        try:
            verified_folder(verified(name)) if folder is None else check_copy(folder)
        except VaezooError as error:
            problem = str(error)
        if say is not None:
            say(f"{'damaged' if problem else 'whole':8}{name}")
        if problem:
            problems.append(f"{name}: {problem}")
    if problems:
        raise CorruptWeightsError(
            f"{len(problems)} of {len(folders)} models are damaged. Cached models are fetched again by "
            "`vaezoo pull NAME`; for bundled ones reinstall vaezoo.\n" + "\n".join(problems)
        )
    return len(folders)


def check_copy(folder: Path) -> None:
    """Compares the files of a cached commit with their names in the cache, which are hashes, and with its config.

    Raises:
        CorruptWeightsError: a file differs.
    """
    for path in files_of(folder):
        blob = path.resolve().name
        if BLOB.fullmatch(blob):
            # The Hub names large files by their SHA-256, the others by git's SHA-1.
            total = hashlib.sha256() if len(blob) == 64 else hashlib.sha1(usedforsecurity=False)
            if len(blob) == 40:
                total.update(b"blob %d\0" % path.stat().st_size)
            with open(path, "rb") as file:
                while part := file.read(2**20):  # not at once: a sparse file can be larger than memory
                    total.update(part)
            if blob != total.hexdigest():
                raise CorruptWeightsError(f"{path.name} is damaged: its hash differs from that of the downloaded file.")
    verified_folder(folder)


def remove(name: str, cache_dir: str | Path | None = None) -> int:
    """Removes a model from the Hub's cache and returns the number of bytes freed.

    Args:
        name: "hf:owner/name" for all its commits, "hf:owner/name@COMMIT" for one, or a pretrained model's name.
        cache_dir: see `list_cached`.

    Raises:
        UnknownNameError: it is not in the cache; with the closest names.
        ConfigError: the model is bundled, or the repository malformed.
    """
    remote = on_the_hub(name)
    if remote is None and name in bundled_models():
        raise ConfigError(f"{name} comes with the package; only models fetched from the Hub can be removed.")
    wanted = remote.repository if remote is not None else Repository.of(f"hf:{name}")
    copies = list_cached(cache_dir)
    chosen = [copy for copy in copies if copy.repository == wanted.name and wanted.revision in (None, copy.commit)]
    if not chosen:
        raise UnknownNameError("model in the Hub's cache", str(wanted), [f"hf:{copy.repository}" for copy in copies])
    with hub_errors(f"{wanted} could not be removed"):
        found = the_client().scan_cache_dir(cache_root(cache_dir))
        plan = found.delete_revisions(*(copy.commit for copy in chosen))
        plan.execute()
    return int(plan.expected_freed_size)
