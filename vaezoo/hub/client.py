"""What vaezoo asks of `huggingface_hub`, and its errors as ours."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vaezoo.errors import ConfigError, CorruptWeightsError, DownloadError, MissingExtraError, VaezooError, shorten
from vaezoo.hub.transfer import Watch, in_time
from vaezoo.storage.config import CONFIG, ONE_FILE, read_config, weight_files
from vaezoo.storage.documents import LARGEST_JSON
from vaezoo.storage.files import library_version, write_file
from vaezoo.storage.model_folder import CARD, METRICS, check_total

__all__ = ["Repository", "fetch", "hub_errors", "the_client"]

LOG = logging.getLogger("vaezoo")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"\w[\w./-]{0,199}", re.ASCII)  # the client takes one that starts with a slash for a path
COMMIT = re.compile(r"[0-9a-f]{40}")
FILES = [CONFIG, ONE_FILE, "model-*-of-*.safetensors", CARD, METRICS]  # as patterns
ORPHANED = 600.0  # seconds after which a file that nobody writes is left over
TIMEOUT = 10.0  # seconds without an answer


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository on the Hub, and how to reach it.

    `name`: owner/name. `revision`: a branch, a tag or a commit; None for the newest commit. `cache_dir`: where copies
    are kept; None for the Hub's own cache (`HF_HOME`). `token`: None for the one that is logged in (`HF_TOKEN`).
    """

    name: str
    revision: str | None = None
    cache_dir: Path | None = None
    token: str | None = field(default=None, repr=False)
    local_files_only: bool = False

    @classmethod
    def of(cls, name: str, revision: str | None = None, **rest: Any) -> Repository:  # Any: the other fields
        """Returns the repository of "hf:owner/name" or "hf:owner/name@revision".

        Raises:
            ConfigError: it is written otherwise, or `revision` is another one.
        """
        repository, _, own = name.removeprefix("hf:").partition("@")
        good = REPOSITORY.fullmatch(repository) and ".." not in name and not (own and revision and own != revision)
        chosen = own or revision
        if not good or (chosen and (".." in chosen or not REVISION.fullmatch(chosen))) or name.endswith("@"):
            raise ConfigError(
                f"Got {shorten(name)}{f' and revision {shorten(revision)}' if revision else ''}; expected "
                "hf:owner/name or hf:owner/name@revision."
            )
        return cls(name=repository, revision=chosen or None, **rest)

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return self.revision is not None and COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        """Returns what `of` takes."""
        return f"hf:{self.name}" + (f"@{self.revision}" if self.revision else "")


def the_client() -> Any:  # a module whose types differ between its versions
    """Returns `huggingface_hub`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingExtraError(f"The Hub needs huggingface-hub: pip install huggingface-hub ({error}).") from None
    return huggingface_hub


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Turns whatever the client raises in the block into a DownloadError that says `what` could not be done."""
    errors = the_client().errors
    try:
        yield
    except DownloadError as error:
        raise DownloadError(f"{what}: {error}") from None
    except VaezooError:
        raise
    except errors.LocalEntryNotFoundError as error:
        cause = "" if error.__cause__ is None else f" ({reason(error.__cause__)})"
        raise DownloadError(
            f"{what}: it is not in the cache, and the Hub could not be reached{cause}. Go online once, or "
            "pass a folder."
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"{what}: there is no such repository, or it is private and needs a token (HF_TOKEN, or token=...)."
        ) from None
    except (errors.HTTPError, errors.HFValidationError, OSError, ValueError) as error:
        raise DownloadError(f"{what}: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """Returns an error, and what it came from, in one line."""
    text = f"{type(error).__name__}: {(str(error).strip() or 'no answer').splitlines()[0]}"
    return text if error.__cause__ is None else f"{text} ({reason(error.__cause__)})"


def fetch(repository: Repository, *, again: bool = False) -> tuple[Path, str]:
    """Returns the local copy of a repository's model files, and its commit.

    A commit that is in the cache is taken without a request; a branch or tag is looked up, and where the Hub does
    not answer the copy in the cache is taken. `again` fetches every file anew.

    Raises:
        DownloadError: what was asked for and why it could not be had.
        CorruptWeightsError: its config makes no sense.
    """
    client = the_client()
    only = repository.local_files_only or client.constants.HF_HUB_OFFLINE
    cached = in_cache(repository)
    if cached is not None and not again and (repository.pinned or only):
        return cached
    with hub_errors(f"{repository} could not be fetched"):
        if only:
            raise client.errors.LocalEntryNotFoundError("requests are switched off")
        try:
            return in_time(lambda watch: transfer(repository, watch, again), client.get_session)
        except (CorruptWeightsError, ConfigError):
            raise
        except (client.errors.HTTPError, OSError, ValueError) as error:
            refused = getattr(getattr(error, "response", None), "status_code", 0) in (401, 403, 404)
            if cached is None or again or refused:
                raise
            LOG.info("%s is taken from the cache: %s", repository, reason(error))
            return cached


def transfer(repository: Repository, watch: Watch, again: bool) -> tuple[Path, str]:
    """Fetches what is missing of a repository, the config first, since it says how large the rest may be."""
    client = the_client()
    known = {"library_name": "vaezoo", "library_version": library_version(), "token": repository.token}
    # One request with a time limit: the client's own look-ups try again for minutes.
    found = client.HfApi(**known).model_info(repository.name, revision=repository.revision, timeout=TIMEOUT)
    commit, there = str(found.sha), {each.rfilename for each in found.siblings or ()}
    if not COMMIT.fullmatch(commit):
        raise ValueError(f"its newest commit is {shorten(commit)}")

    def get(file: str, largest: int) -> Path:
        watch.largest = max(largest, LARGEST_JSON)
        place = {"revision": commit, "cache_dir": repository.cache_dir, "etag_timeout": TIMEOUT, **known}
        path = Path(client.hf_hub_download(repository.name, file, force_download=again, **place))
        if again and path.resolve().name != watch.tag:
            # The client leaves what stands under the file's own name, though it has fetched something else.
            path.unlink()
            path = Path(client.hf_hub_download(repository.name, file, **place))
        return path

    folder = get(CONFIG, LARGEST_JSON).parent
    if folder.name != commit:
        raise ValueError(f"asked for commit {commit}, the Hub gave {shorten(folder.name)}")
    config = read_config(folder)
    check_total(config, folder.name)
    for file in sorted({METRICS, CARD} & there):
        get(file, LARGEST_JSON)
    for weights in weight_files(config):
        get(weights.file, weights.size)
    remember(folder, repository, commit)
    remove_stale_downloads(folder.parent.parent)
    return folder, commit


def remember(folder: Path, repository: Repository, commit: str) -> None:
    """Notes in the cache which commit a branch is at, once all of it is there; not where the cache is read-only."""
    if not repository.pinned:
        note = folder.parent.parent / "refs" / (repository.revision or "main")
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            write_file(note, commit.encode())


def remove_stale_downloads(place: Path) -> None:
    """Removes what downloads of a repository left that were killed: old, and nobody holds its lock."""
    for path in place.glob("blobs/*.incomplete"):
        lock = place.parent / ".locks" / place.name / f"{path.name.removesuffix('.incomplete')[:-9]}.lock"
        with suppress(OSError, Timeout):
            if time.time() - path.stat().st_mtime > ORPHANED and lock.exists():
                with FileLock(lock, timeout=0):
                    path.unlink()


def in_cache(repository: Repository) -> tuple[Path, str] | None:
    """Returns the copy of a repository that is in the cache, and its commit; None where a file is missing."""
    try:
        config = the_client().try_to_load_from_cache(
            repository.name, CONFIG, cache_dir=repository.cache_dir, revision=repository.revision
        )
    except (OSError, ValueError):
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        files = weight_files(read_config(folder))
    except CorruptWeightsError:
        files = []  # whoever reads it will see, and have it fetched again
    return (folder, folder.name) if all((folder / file.file).exists() for file in files) else None
