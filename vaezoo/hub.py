"""`load`: a model by name, from a folder, or from the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

from vaezoo.checkpoint import read_bytes, sha256
from vaezoo.errors import ConfigError, CorruptWeightsError, DownloadError, MissingExtraError, UnknownNameError
from vaezoo.model import VAE
from vaezoo.trainer import choose_device
from vaezoo.zoo.folder import CARD, CONFIG, METRICS, WEIGHTS, read_model
from vaezoo.zoo.index import bundled_folder, info, read_index

__all__ = ["load", "locate"]

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
REVISION = re.compile(r"[\w./-]{1,200}")


def load(name: str | Path, *, device: str = "cpu") -> VAE:
    """Returns a trained model in eval mode.

    Args:
        name: a pretrained model's name ("beta-vae-mnist"), a folder (anything with a slash: "runs/mine"), or a Hub
            repository ("hf:owner/name" or "hf:owner/name@revision").
        device: "cpu", "cuda", …, or "auto".

    Raises:
        UnknownNameError: no such name or folder, with the closest names.
        CorruptWeightsError: bytes, names, shapes or digests are not the recorded ones.
        DownloadError: the Hub could not be reached, or has no such repository.
    """
    target = choose_device(device)
    return read_model(locate(name)).to(target)


def locate(name: str | Path) -> Path:
    """Returns the folder of a model, fetched if need be; see `load`."""
    if isinstance(name, str) and name.startswith("hf:"):
        return fetch(name)
    if isinstance(name, str) and name in read_index():
        return verified(name)
    if isinstance(name, Path) or "/" in name or "\\" in name:
        folder = Path(name)
        if "\0" not in str(name) and (folder / CONFIG).is_file():
            return folder
        if "\0" not in str(name) and (folder / "model" / CONFIG).is_file():
            return folder / "model"
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


def fetch(name: str) -> Path:
    """Returns the local copy of a Hub repository's model files.

    Raises:
        ConfigError: the name is not hf:owner/name[@revision].
        DownloadError: what was asked for and why it could not be had.
    """
    repository, _, revision = name.removeprefix("hf:").partition("@")
    good = REPOSITORY.fullmatch(repository) and (not revision or REVISION.fullmatch(revision)) and ".." not in name
    if not good:
        raise ConfigError(f"Got {name!r}; expected hf:owner/name or hf:owner/name@revision.")
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtraError(
            f"Loading from the Hub needs huggingface-hub: pip install huggingface-hub ({error})."
        ) from None
    try:
        folder = huggingface_hub.snapshot_download(
            repository,
            revision=revision or None,
            allow_patterns=[CONFIG, WEIGHTS, CARD, METRICS],
            library_name="vaezoo",
            etag_timeout=5,
        )
    except LocalEntryNotFoundError as error:
        raise DownloadError(
            f"{name} is not in the cache, and the Hub could not be reached: {error}. Go online once, or pass a folder."
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise DownloadError(
            f"{name} could not be fetched: {type(error).__name__}: {str(error).splitlines()[0]}"
        ) from None
    return Path(folder)
