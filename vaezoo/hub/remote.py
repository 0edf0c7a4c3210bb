"""Models on the Hub: the repository of a name, and its download with every check."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from vaezoo.errors import ConfigError, CorruptWeightsError, DownloadError, shorten
from vaezoo.hub.client import Repository, fetch
from vaezoo.storage.json_files import read_bytes, sha256
from vaezoo.zoo.index import read_index

T = TypeVar("T")
Files = Mapping[str, Mapping[str, object]]  # name -> size and SHA-256
LOG = logging.getLogger("vaezoo")


class Remote(NamedTuple):
    """A repository on the Hub, with size and SHA-256 of the files that the index records."""

    repository: Repository
    files: Files


def on_the_hub(name: str | Path, revision: str | None = None, **rest: Any) -> Remote | None:  # Any: Repository's fields
    """Returns the Hub repository of a name; None for bundled models and folders.

    Raises:
        ConfigError: a malformed repository, or a revision of a model without revisions.
    """
    if isinstance(name, str) and name.startswith("hf:"):
        return Remote(Repository.of(name, revision, **rest), {})
    if revision is not None:
        raise ConfigError(f"Got revision {shorten(revision)} of {shorten(name)}; only hf:owner/name has revisions.")
    facts = read_index().get(name) if isinstance(name, str) else None
    if facts is None or "repository" not in facts:
        return None
    pinned = Repository.of(f"hf:{facts['repository']}", str(facts["commit"]), **rest)
    return Remote(pinned, cast(Files, facts["files"]))


def fetched(remote: Remote, use: Callable[[Path], T]) -> tuple[Path, str, T]:
    """Returns folder and commit of a repository, and `use(folder)`; damaged files are fetched once more.

    Raises:
        CorruptWeightsError: the files on the Hub are damaged too, or cannot be fetched again.
    """
    repository, files = remote

    def read(again: bool = False) -> tuple[Path, str, T]:
        folder, commit = fetch(repository, again=again)
        for file, facts in files.items():
            size = facts.get("size")
            data = read_bytes(folder / file, size if isinstance(size, int) else 0)
            found = {"size": len(data), "sha256": sha256(data)}
            if found != facts:
                raise CorruptWeightsError(f"{file} has {found}; the index of pretrained models has {facts}.")
        return folder, commit, use(folder)

    try:
        return read()
    except CorruptWeightsError as error:
        if repository.local_files_only:
            raise
        LOG.info("%s is fetched once more: %s", repository, error)
        try:
            return read(again=True)
        except DownloadError as failure:
            raise CorruptWeightsError(f"{error} It could not be fetched again: {failure}") from None
