"""`load`: a model by name, from a folder, or from the Hugging Face Hub."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch

from vaezoo.checkpoint import read_bytes, sha256, write_file
from vaezoo.errors import CheckpointError, ConfigError, CorruptWeightsError, DownloadError, UnknownNameError, shorten
from vaezoo.hub.client import Repository, fetch
from vaezoo.model import VAE
from vaezoo.trainer import choose_device
from vaezoo.zoo.config import weight_files
from vaezoo.zoo.folder import CARD, CONFIG, METRICS, WEIGHTS, read_model, verified_folder
from vaezoo.zoo.index import bundled_folder, info, read_index

__all__ = ["load", "locate", "pull"]

T = TypeVar("T")
Files = Mapping[str, Mapping[str, object]]  # name -> size and SHA-256
LOG = logging.getLogger("vaezoo")


class Remote(NamedTuple):
    """A repository on the Hub, and what its files must be, as far as that is known beforehand."""

    repository: Repository
    files: Files


def load(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> VAE:
    """Returns a trained model in eval mode.

    Args:
        name: a pretrained model's name ("beta-vae-mnist"), a folder (anything with a slash: "runs/mine"), or a Hub
            repository ("hf:owner/name" or "hf:owner/name@revision"). A pretrained model that does not come with the
            package is fetched from the Hub once; the package's index says what each of its files must be.
        revision: of a Hub repository: a branch, a tag, or a commit of 40 digits, which can be loaded again without any
            request. Otherwise the commit is looked up, reported, and recorded as `model.config["source"]`.
        device: "cpu", "cuda", …, or "auto".
        dtype: the floating type of the weights; as they were saved where None.
        cache_dir: where copies from the Hub are kept; its own cache (`HF_HOME`) where None.
        token: for private repositories; the one that is logged in (`HF_TOKEN`) where None.
        local_files_only: ask nobody; take what is in the cache.

    Raises:
        UnknownNameError: no such name or folder, with the closest names.
        CorruptWeightsError: bytes, names, shapes or digests are not the recorded ones; a damaged copy in the cache is
            fetched once more before.
        DownloadError: the Hub could not be reached, or has no such repository.
        ConfigError: a malformed repository, a revision of what is not on the Hub, or a type that is not floating.
    """
    target = choose_device(device)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ConfigError(f"Got dtype {shorten(dtype)}; expected a floating torch.dtype such as torch.float32.")
    place = None if cache_dir is None else Path(cache_dir)
    remote = on_the_hub(name, revision, cache_dir=place, token=token, local_files_only=local_files_only)
    model = read_model(locate(name)) if remote is None else from_hub(remote)
    return model.to(device=target, dtype=dtype)


def pull(
    name: str,
    *,
    revision: str | None = None,
    to: str | Path | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
) -> Path:
    """Fetches a model from the Hub into the cache, checks it as `load` does, and returns its folder.

    Args:
        name: a pretrained model's name, or "hf:owner/name" or "hf:owner/name@revision".
        revision: of a Hub repository.
        to: a folder to copy it to, which is then what is returned.
        cache_dir: see `load`.
        token: see `load`.

    Raises:
        UnknownNameError, CorruptWeightsError, DownloadError, ConfigError: see `load`.
        CheckpointError: `to` cannot be written.
    """
    place = None if cache_dir is None else Path(cache_dir)
    remote = on_the_hub(name, revision, cache_dir=place, token=token)
    folder = locate(name) if remote is None else fetched(remote, read_model)[0]
    if to is None:
        return folder
    target = Path(to)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"Could not make {target}: {error}. Choose another folder.") from None
    names = [file.file for file in weight_files(verified_folder(folder))]
    for file in (*names, METRICS, CARD, CONFIG):
        if (folder / file).exists():
            write_file(target / file, read_bytes(folder / file))
    return target


def on_the_hub(name: str | Path, revision: str | None = None, **rest: Any) -> Remote | None:  # Any: Repository's fields
    """Returns where a name is on the Hub; None for what is bundled or in a folder.

    Raises:
        ConfigError: a malformed repository, or a revision of what has none.
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
    """Returns folder and commit of a repository, and what `use` makes of the folder.

    What is damaged is fetched once more.

    Raises:
        CorruptWeightsError: it is damaged there too, or cannot be fetched again.
    """
    repository, files = remote
    try:
        folder, commit = fetch(repository)
        return folder, commit, checked(folder, files, use)
    except CorruptWeightsError as error:
        if repository.local_files_only:
            raise
        LOG.info("%s is fetched once more: %s", repository, error)
        try:
            folder, commit = fetch(repository, again=True)
        except DownloadError as failure:
            raise CorruptWeightsError(f"{error} It could not be fetched again: {failure}") from None
    return folder, commit, checked(folder, files, use)


def checked(folder: Path, files: Files, use: Callable[[Path], T]) -> T:
    """Returns `use(folder)`, after the folder's files were compared with what the index says of them."""
    for file, facts in files.items():
        data = read_bytes(folder / file)
        found = {"size": len(data), "sha256": sha256(data)}
        if found != facts:
            raise CorruptWeightsError(f"{file} has {found}; the index of pretrained models says {facts}.")
    return use(folder)


def from_hub(remote: Remote) -> VAE:
    """Returns the model of a repository; its config says which commit it is."""
    repository = remote.repository
    _, commit, model = fetched(remote, read_model)
    if not repository.pinned:
        LOG.info("hf:%s is at commit %s; hf:%s@%s stays as it is.", repository.name, commit, repository.name, commit)
    model.config = {**(model.config or {}), "source": {"repository": repository.name, "commit": commit}}
    return model


def locate(name: str | Path) -> Path:
    """Returns the folder of a model, fetched if need be; see `load`."""
    remote = on_the_hub(name)
    if remote is not None:
        return fetched(remote, verified_folder)[0]
    if isinstance(name, str) and name in read_index():
        return verified(name)
    if isinstance(name, Path) or (isinstance(name, str) and ("/" in name or "\\" in name)):
        for folder in (Path(name), Path(name) / "model"):
            with suppress(OSError, ValueError):  # a name that no folder can have, or none of ours to read
                if (folder / CONFIG).is_file():
                    return folder
        raise UnknownNameError("model folder", str(name), (), f"Expected a folder with {CONFIG} and {WEIGHTS}.")
    raise UnknownNameError(
        "pretrained model",
        name,
        read_index(),
        "A folder of your own needs a slash (./mine); a Hub repository starts with hf:.",
    )


def verified(name: str) -> Path:
    """Returns the folder of a bundled model whose config, which vouches for its weights, is the indexed one.

    Raises:
        CorruptWeightsError: it is not.
    """
    folder = bundled_folder(name)
    files = cast(dict[str, dict[str, object]], info(name)["files"])
    found, wanted = sha256(read_bytes(folder / CONFIG)), str(files[CONFIG]["sha256"])
    if found != wanted:
        raise CorruptWeightsError(
            f"{name}/{CONFIG} has SHA-256 {found[:12]}…; the index says {wanted[:12]}…. Reinstall vaezoo."
        )
    return folder
