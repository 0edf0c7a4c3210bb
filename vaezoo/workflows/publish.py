"""`push`: a model folder onto the Hugging Face Hub, in one commit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from vaezoo.core import VAE
from vaezoo.errors import ConfigError, VaezooError, shorten
from vaezoo.hub.client import FILES, Repository, hub_api, hub_errors
from vaezoo.storage.config import CONFIG, read_config, weight_files
from vaezoo.storage.documents import canonical
from vaezoo.storage.files import write_file
from vaezoo.storage.model_card import hub_card
from vaezoo.storage.model_folder import CARD, METRICS, read_metrics, save, verified_folder
from vaezoo.workflows.load import load, locate
from vaezoo.zoo.index import info, list_models

__all__ = ["push", "selected_models", "staged"]

SAMPLES = "samples.png"
MEASURED = ("data", "split", "examples", "samples", "distortion", "rate")


def push(
    model: VAE | str | Path,
    repository: str,
    *,
    metrics: Mapping[str, object] | None = None,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> str:
    """Publishes a model on the Hugging Face Hub in one commit, and returns "hf:owner/name@COMMIT", which loads it.

    Config, weights, figures, a picture of samples and a model card go there; `load` checks them on the other side.

    Args:
        model: a model, a pretrained model's name, or a model folder.
        repository: owner/name; made if it is not there yet.
        metrics: the figures of `evaluate(...).as_dict()`; taken from the folder where None.
        private: whether a new repository is private; one that is there stays as it is.
        revision: the branch, "main" where None.
        commit_message: the first line of the commit.
        token: one that may write; the one that is logged in (`HF_TOKEN`) where None.
        dry_run: check everything and send nothing; returns "hf:owner/name".

    Raises:
        ConfigError: a malformed repository, a model without figures, or one that was changed by hand.
        CorruptWeightsError: the folder is damaged.
        DownloadError: the Hub could not be reached, or refused.
    """
    if "@" in repository:
        raise ConfigError(f"Got {shorten(repository)}; expected owner/name (and the branch as revision=…).")
    target = Repository.of(f"hf:{repository}", revision, token=token)
    with tempfile.TemporaryDirectory() as scratch:
        folder = staged(model, Path(scratch) / "model", target, metrics)
        if dry_run:
            return f"hf:{target.name}"
        api = hub_api(token)
        with hub_errors(f"{target} could not be published"):
            api.create_repo(target.name, private=private, exist_ok=True)
            if revision is not None and revision != "main":
                api.create_branch(target.name, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=target.name,
                folder_path=folder,
                revision=revision,
                commit_message=commit_message or f"Publish {target.name.partition('/')[2]}",
                allow_patterns=[*FILES, SAMPLES],
                delete_patterns=[pattern for pattern in FILES if pattern.endswith(".safetensors")],
            )
    return f"hf:{target.name}@{commit.oid}"


def selected_models(names: Sequence[str], everything: bool) -> list[str]:
    """Returns the models to publish: those named, or all that come with the package.

    Raises:
        ConfigError: none are named, or some although all are asked for.
    """
    if bool(names) == everything:
        raise ConfigError("Say which models to publish: NAME…, or --all for all bundled ones.")
    return [name for name in list_models() if "repository" not in info(name)] if everything else list(names)


def staged(
    model: VAE | str | Path, folder: Path, target: Repository, metrics: Mapping[str, object] | None = None
) -> Path:
    """Writes what is published of a model into `folder`, all of it checked, and returns it; see `push`."""
    if isinstance(model, VAE):
        save(model, folder)
        figures = metrics or {}
    else:
        source = locate(model)
        names = [file.file for file in weight_files(verified_folder(source))]
        folder.mkdir()
        for file in (CONFIG, *names):
            shutil.copyfile(source / file, folder / file)
        figures = metrics or read_metrics(source) or {}
    missing = [key for key in MEASURED if figures.get(key) is None]
    if missing:
        raise ConfigError(
            f"This model has no figures ({', '.join(missing)} missing), and none is published without: run `vaezoo "
            "evaluate FOLDER --write` first (in Python: metrics=vaezoo.evaluate(model).as_dict())."
        )
    write_file(folder / METRICS, canonical(figures).encode())
    picture = SAMPLES if draw_samples(load(folder), folder / SAMPLES) else None
    card = hub_card(target.name, read_config(folder), figures, picture)
    write_file(folder / CARD, card.encode())
    return folder


def draw_samples(model: VAE, path: Path) -> bool:
    """Draws 64 samples, and says whether it could: models of other data than images have no pictures."""
    from vaezoo import pictures

    context = torch.arange(64) % model.context if model.context else None
    try:
        pictures.samples(model, 64, path, context, 0)
    except VaezooError:
        return False
    return True
