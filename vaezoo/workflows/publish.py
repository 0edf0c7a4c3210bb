"""`push`: publish a model on the Hugging Face Hub in one commit."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from vaezoo.core import VAE
from vaezoo.errors import ConfigError, VaezooError, shorten
from vaezoo.hub.client import Repository, hub_api, hub_errors, session, the_client
from vaezoo.hub.limits import Limits, limited
from vaezoo.storage.config import read_config
from vaezoo.storage.files import write_file
from vaezoo.storage.model_card import hub_card
from vaezoo.storage.model_folder import CARD, copy_folder, read_metrics, save, write_metrics
from vaezoo.workflows.load import finished, load
from vaezoo.zoo.index import bundled_models

SAMPLES = "samples.png"
PATIENCE, TRIES = 30.0, 2  # seconds without a byte, and attempts, of each request
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

    The commit holds config, weights, metrics, a picture of samples and a model card.

    Args:
        model: a model, a pretrained model's name, or a model folder.
        repository: owner/name; created if it does not exist.
        metrics: the figures of `evaluate(...).as_dict()`; None for those of the folder.
        private: whether a new repository is private; an existing one is not changed.
        revision: the branch; None for "main".
        commit_message: the first line of the commit.
        token: one with write access; None for the stored one (`HF_TOKEN`).
        dry_run: checks everything and sends nothing; returns "hf:owner/name".

    Raises:
        ConfigError: a malformed repository, a model without metrics, or one that was changed by hand.
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
        with hub_errors(f"{target} could not be published"):
            commit = send(target, folder, private, commit_message or f"Publish {target.name.partition('/')[2]}")
    return f"hf:{target.name}@{commit}"


def send(target: Repository, folder: Path, private: bool, message: str) -> str:
    """Publishes the files of a folder in one commit, which replaces all weights, and returns its hash."""
    client, api, revision = the_client(), hub_api(target.token), target.revision
    files = [client.CommitOperationAdd(each.name, each) for each in sorted(folder.iterdir())]
    with patient():
        api.create_repo(target.name, private=private, exist_ok=True)
    if revision is not None and revision != "main":
        with patient():
            api.create_branch(target.name, branch=revision, exist_ok=True)
    for each in files:  # one at a time: the client would send several in threads, without the limits of this one
        with patient():
            api.preupload_lfs_files(target.name, [each], revision=revision)
    with patient():
        there = list(api.list_repo_files(target.name, revision=revision))
    old = {file for file in there if file.endswith(".safetensors")} - {each.name for each in folder.iterdir()}
    gone = [client.CommitOperationDelete(file) for file in sorted(old)]
    with patient():
        commit = api.create_commit(target.name, [*files, *gone], commit_message=message, revision=revision)
    return str(commit.oid)


def patient() -> AbstractContextManager[None]:
    """Returns the limits of a request of `push`."""
    return limited(session(), Limits(timeout=PATIENCE, attempts=TRIES))


def selected_models(names: Sequence[str], everything: bool) -> list[str]:
    """Returns the models to publish: the named ones, or all bundled ones.

    Raises:
        ConfigError: no names without `everything`, or names with it.
    """
    if bool(names) == everything:
        raise ConfigError("Name the models to publish: NAME…, or --all for all bundled ones.")
    return bundled_models() if everything else list(names)


def staged(
    model: VAE | str | Path, folder: Path, target: Repository, metrics: Mapping[str, object] | None = None
) -> Path:
    """Writes the verified files of a model for the Hub into `folder`, and returns it; see `push`."""
    if isinstance(model, VAE):
        save(model, folder, metrics=metrics)
    else:
        copy_folder(finished(model), folder)
        if metrics is not None:
            write_metrics(folder, metrics)
    figures = read_metrics(folder) or {}
    missing = [key for key in MEASURED if figures.get(key) is None]
    if missing:
        raise ConfigError(
            f"This model has no figures ({', '.join(missing)} missing). Run `vaezoo evaluate FOLDER --write` before "
            "publishing (in Python: metrics=vaezoo.evaluate(model, data).as_dict())."
        )
    picture = SAMPLES if draw_samples(load(folder), folder / SAMPLES) else None
    card = hub_card(target.name, read_config(folder), figures, picture)
    write_file(folder / CARD, card.encode())
    return folder


def draw_samples(model: VAE, path: Path) -> bool:
    """Draws 64 samples, and returns whether that was possible: models of other data than images have no pictures."""
    from vaezoo import pictures

    context = torch.arange(64) % model.context if model.context else None
    try:
        pictures.samples(model, 64, path, context, 0)
    except VaezooError:
        return False
    return True
