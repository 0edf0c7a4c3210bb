"""What vaezoo asks of `huggingface_hub`, and its errors as ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaezoo.checkpoint import library_version
from vaezoo.errors import ConfigError, DownloadError, MissingExtraError, shorten
from vaezoo.zoo.folder import CARD, CONFIG, METRICS, WEIGHTS

__all__ = ["Repository", "fetch", "forget", "hub_errors", "the_client"]

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"\w[\w./-]{0,199}", re.ASCII)  # the client takes one that starts with a slash for a path
COMMIT = re.compile(r"[0-9a-f]{40}")
FILES = [CONFIG, WEIGHTS, CARD, METRICS]
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
    except errors.LocalEntryNotFoundError:
        raise DownloadError(
            f"{what}: it is not in the cache, and the Hub could not be reached. Go online once, or pass a folder."
        ) from None
    except errors.RepositoryNotFoundError:
        raise DownloadError(
            f"{what}: there is no such repository, or it is private and needs a token (HF_TOKEN, or token=...)."
        ) from None
    except (errors.HTTPError, errors.HFValidationError, OSError, ValueError) as error:
        text = (str(error).strip() or "no answer").splitlines()[0]
        raise DownloadError(f"{what}: {type(error).__name__}: {text}") from None


def fetch(repository: Repository, *, again: bool = False) -> tuple[Path, str]:
    """Returns the local copy of a repository's model files, and its commit.

    A commit that is in the cache is taken without a request; a branch or tag is looked up, and where the Hub does
    not answer the copy in the cache is taken. `again` fetches every file anew.

    Raises:
        DownloadError: what was asked for and why it could not be had.
    """
    if not again and (repository.pinned or repository.local_files_only):
        cached = in_cache(repository)
        if cached is not None:
            return cached
    client = the_client()
    with hub_errors(f"{repository} could not be fetched"):
        reached = not repository.local_files_only and answers(repository, client)
        folder = client.snapshot_download(
            repository.name,
            revision=repository.revision,
            cache_dir=repository.cache_dir,
            token=repository.token,
            local_files_only=not reached,
            force_download=again and reached,
            allow_patterns=FILES,
            library_name="vaezoo",
            library_version=library_version(),
            etag_timeout=TIMEOUT,
        )
    return Path(folder), Path(folder).name


def answers(repository: Repository, client: Any) -> bool:  # the client's module
    """Says whether the Hub has a revision; False where it gives no answer of its own, but the cache has a copy.

    One request with a time limit: the client's own downloads try again for minutes.
    """
    api = client.HfApi(library_name="vaezoo", library_version=library_version(), token=repository.token)
    errors = client.errors
    try:
        return bool(api.model_info(repository.name, revision=repository.revision, timeout=TIMEOUT).sha)
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 500)
        if status in (401, 403, 404):
            raise
        failure: Exception = error
    except (errors.HTTPError, OSError, ValueError) as error:  # nobody there, or something else than the Hub
        failure = error
    if in_cache(repository) is None:
        raise failure
    return False


def in_cache(repository: Repository) -> tuple[Path, str] | None:
    """Returns the copy of a repository that is in the cache, and its commit; None where a file is missing."""
    client = the_client()
    try:
        folder = client.snapshot_download(
            repository.name,
            revision=repository.revision,
            cache_dir=repository.cache_dir,
            local_files_only=True,
            allow_patterns=FILES,
        )
    except (client.errors.LocalEntryNotFoundError, OSError, ValueError):
        return None
    path = Path(folder)
    return (path, path.name) if all((path / file).exists() for file in (CONFIG, WEIGHTS)) else None


def forget(folder: Path) -> None:
    """Removes a copy's config and weights from the cache, blobs included, so that they are fetched anew."""
    for file in (CONFIG, WEIGHTS):
        for path in {(folder / file).resolve(), folder / file}:
            path.unlink(missing_ok=True)
