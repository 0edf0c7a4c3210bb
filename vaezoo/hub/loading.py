"""`load`: a model by name, from a folder, or from the Hugging Face Hub."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import cast

import torch

from vaezoo.checkpoint import read_bytes, sha256
from vaezoo.errors import ConfigError, CorruptWeightsError, UnknownNameError, shorten
from vaezoo.hub.client import Repository, fetch, forget
from vaezoo.model import VAE
from vaezoo.trainer import choose_device
from vaezoo.zoo.folder import CONFIG, WEIGHTS, read_model
from vaezoo.zoo.index import bundled_folder, info, read_index

__all__ = ["load", "locate"]

LOG = logging.getLogger("vaezoo")


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
            repository ("hf:owner/name" or "hf:owner/name@revision").
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
    if isinstance(name, str) and name.startswith("hf:"):
        place = None if cache_dir is None else Path(cache_dir)
        rest = {"cache_dir": place, "token": token, "local_files_only": local_files_only}
        model = from_hub(Repository.of(name, revision, **rest))
    elif revision is not None:
        raise ConfigError(f"Got revision {shorten(revision)} of {shorten(name)}; only hf:owner/name has revisions.")
    else:
        model = read_model(locate(name))
    return model.to(device=target, dtype=dtype)


def from_hub(repository: Repository) -> VAE:
    """Returns the model of a repository; what is damaged in the cache is fetched once more."""
    folder, commit = fetch(repository)
    try:
        model = read_model(folder)
    except CorruptWeightsError as error:
        if repository.local_files_only:
            raise
        LOG.info("%s is fetched once more: %s", repository, error)
        folder, commit = fetch(repository, again=True)
        try:
            model = read_model(folder)
        except CorruptWeightsError:
            forget(folder)  # or it would be found again, and looked at no more
            raise
    if not repository.pinned:
        LOG.info("hf:%s is at commit %s; hf:%s@%s stays as it is.", repository.name, commit, repository.name, commit)
    model.config = {**(model.config or {}), "source": {"repository": repository.name, "commit": commit}}
    return model


def locate(name: str | Path) -> Path:
    """Returns the folder of a model, fetched if need be; see `load`."""
    if isinstance(name, str) and name.startswith("hf:"):
        return fetch(Repository.of(name))[0]
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
