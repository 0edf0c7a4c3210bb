"""`load`: a model by name, from a folder, or from the Hugging Face Hub."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from vaezoo.core import VAE, choose_device, differentiable
from vaezoo.errors import ConfigError, UnknownNameError, VaezooError, printable, shorten
from vaezoo.hub.client import PIPELINE, check_subfolder
from vaezoo.hub.remote import LOG, fetched, on_the_hub
from vaezoo.recipe import OF_A_RUN, list_recipes
from vaezoo.registry import is_variant
from vaezoo.storage.config import CONFIG, WEIGHTS
from vaezoo.storage.diffusers.reading import read_diffusers, settings_of
from vaezoo.storage.figures import METRICS
from vaezoo.storage.json_files import LARGEST_JSON, parse_json, read_bytes
from vaezoo.storage.model_folder import CARD, copy_folder, read_model, verified_folder
from vaezoo.storage.unfinished import is_unfinished, read_unfinished
from vaezoo.zoo.index import PACKAGE_FOLDER, read_index, verified


@differentiable
def load(
    name: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    size: int | Sequence[int] | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> VAE:
    """Returns a trained model in eval mode.

    Args:
        name: a pretrained model's name ("beta-vae-mnist"), a folder (anything with a slash: "runs/mine"), or a Hub
            repository ("hf:owner/name" or "hf:owner/name@revision"). A pretrained model that is not bundled is
            downloaded from the Hub once, and compared with the hashes in the package's index. The folder of a run that
            has not ended, or a checkpoint in it, gives the best weights so far, or else the newest ones. Repositories
            and folders may also hold an image autoencoder in the layout of diffusers (docs/guides/diffusers.md).
        revision: of a Hub repository: a branch, a tag, or a commit of 40 digits, which needs no request once it is
            cached. The commit of a branch is logged and recorded as `model.config["source"]`.
        subfolder: of a repository or folder, "vae" for the autoencoder of a pipeline of diffusers.
        size: side or sides (H, W) of the images of an autoencoder of diffusers; None for those of its config.
        device: "cpu", "cuda", … or "auto", which chooses a GPU if there is one.
        dtype: the floating type of the weights; None for the type in which the model was saved.
        cache_dir: the folder of cached files; None for the Hub's own cache (`HF_HOME`).
        token: for private repositories; None for the stored one (`HF_TOKEN`).
        local_files_only: whether to load from the cache without requests.

    Raises:
        UnknownNameError: no such name or folder, with the closest names.
        CorruptWeightsError: bytes, names, shapes or hashes differ from the recorded ones; a damaged cached file is
            first fetched once more.
        DownloadError: the Hub could not be reached, or has no such repository.
        ConfigError: a malformed repository, a revision of a model without revisions, a type that is not floating, or
            an autoencoder of diffusers that has no counterpart.
    """
    target = choose_device(device)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ConfigError(f"Got dtype {shorten(dtype)}; expected a floating torch.dtype such as torch.float32.")
    place = None if cache_dir is None else Path(cache_dir)
    check_subfolder(subfolder or "")
    options = {"cache_dir": place, "local_files_only": local_files_only, "subfolder": subfolder or ""}
    remote = on_the_hub(name, revision, token=token, **options)
    read = partial(read_folder, size=size)
    if remote is None:
        model = read(locate(Path(name) / subfolder if subfolder else name))
    else:
        repository = remote.repository
        _, commit, model = fetched(remote, read)
        if not repository.pinned:
            LOG.info("hf:%s is at commit %s; hf:%s@%s never changes.", repository.name, commit, repository.name, commit)
        model.config = {**(model.config or {}), "source": {"repository": repository.name, "commit": commit}}
    return model.to(device=target, dtype=dtype)


def figures_in(folder: Path) -> dict[str, object] | None:
    """Returns the figures in a model folder, for display, unchecked; None without any, or if they are no table."""
    with suppress(VaezooError, OSError):
        found = parse_json(read_bytes(folder / METRICS, LARGEST_JSON), METRICS)
        return found if isinstance(found, dict) else None
    return None


def read_folder(folder: Path, size: int | Sequence[int] | None = None) -> VAE:
    """Returns the model of a folder: one of vaezoo, of a run that has not ended, or of diffusers; see `load`."""
    saved = (folder / CONFIG).is_file()
    if saved and settings_of(folder) is not None:
        return read_diffusers(folder, size)
    if size is not None:
        raise ConfigError(f"Got size = {shorten(size)}; only an autoencoder of diffusers has images of any size.")
    model = read_model(folder) if saved else read_unfinished(folder)
    model.figures = figures_in(folder)
    return model


def pull(
    name: str,
    *,
    revision: str | None = None,
    to: str | Path | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
) -> Path:
    """Downloads a model from the Hub into the cache, verifies it as `load` does, and returns its folder.

    Args:
        name: a pretrained model's name, or "hf:owner/name" or "hf:owner/name@revision".
        revision: of a Hub repository.
        to: a folder to copy it to, with its recipe if that is published; it is then returned.
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
    copy_folder(folder, Path(to), (METRICS, CARD, OF_A_RUN))
    return Path(to)


def locate(name: str | Path) -> Path:
    """Returns the folder of a model, downloaded if necessary; see `load`."""
    remote = on_the_hub(name)
    if remote is not None:
        return fetched(remote, verified_folder)[0]
    if isinstance(name, str) and name in read_index():
        return verified(name)
    if isinstance(name, Path) or (isinstance(name, str) and ("/" in name or "\\" in name)):
        for folder in (Path(name), Path(name) / "model"):
            with suppress(OSError, ValueError):  # an invalid path, or no permission
                if (folder / CONFIG).is_file():
                    return folder
        with suppress(OSError, ValueError):
            if is_unfinished(Path(name)):
                return Path(name)
        hint = f"Expected a folder with {CONFIG} and {WEIGHTS}, or a run."
        with suppress(OSError, ValueError):
            if (Path(name) / PIPELINE).is_file():
                hint = "It is a pipeline of diffusers: pass subfolder='vae' for its autoencoder."
        raise UnknownNameError("model folder", str(name), (), f"{hint} {about_file(name)}".strip())
    known = list[str]()  # not listed where the name is that of something else
    if isinstance(name, str) and name in list_recipes():
        hint = (
            f"{name!r} is a recipe that has no weights yet: train it (vaezoo train {name}), then load the "
            f"folder of its run (runs/{name})."
        )
    elif is_variant(name):
        hint = f"{name!r} is a variant, which has no weights of its own: create it, or train it by a recipe."
    else:
        known = [*read_index()]
        hint = (
            f"A folder of your own needs a slash (./mine); a Hub repository starts with hf:. {about_file(name)}".strip()
        )
    raise UnknownNameError("pretrained model", name, known, hint)


def about_file(name: object) -> str:
    """Returns what to do with an existing file of weights that is given in place of a folder, or an empty text."""
    with suppress(OSError, ValueError):
        if isinstance(name, str | Path) and Path(name).is_file():
            return (
                f"{printable(str(name))} is a file: `vaezoo convert` makes a folder of the weights of another project "
                "(docs/guides/convert.md); model.load_state_dict(torch.load(PATH)) reads those of torch.save."
            )
    return ""


def finished(name: str | Path) -> Path:
    """Returns the folder of a model as `locate` does; raises ConfigError for a run that has not ended."""
    folder = locate(name)
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"{folder} is an unfinished run, which has checkpoints but no model files. Continue it to its end "
            "(--resume), or save its model elsewhere: vaezoo.save(vaezoo.load(RUN), FOLDER)."
        )
    return folder


def is_published(name: str | Path, folder: Path) -> bool:
    """Returns whether the folder of a model is in the installed package or in the Hub's cache."""
    return PACKAGE_FOLDER in folder.resolve().parents or on_the_hub(name) is not None


def own_folder(name: str | Path) -> Path:
    """Returns the folder of a model in which files may be written.

    Raises:
        ConfigError: the model is in the installed package or in the Hub's cache, or is an unfinished run; otherwise
            see `locate`.
    """
    folder = finished(name)
    if is_published(name, folder):
        raise ConfigError(
            f"{shorten(str(name))} is a published model, whose files are not changed. Save a copy first, in a folder "
            "of yours: vaezoo.save(vaezoo.load(NAME), FOLDER)."
        )
    return folder
