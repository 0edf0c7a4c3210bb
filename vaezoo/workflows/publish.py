"""`push`: publish a model on the Hugging Face Hub in one commit."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from vaezoo.core import VAE, public_name
from vaezoo.data.bundled import needs_no_download
from vaezoo.errors import ConfigError, VaezooError, shorten
from vaezoo.hub.client import Repository, hub_api, hub_errors, session, the_client
from vaezoo.hub.limits import Limits, limited
from vaezoo.recipe import OF_A_RUN, list_recipes, read_recipe
from vaezoo.storage.config import read_config
from vaezoo.storage.figures import METRICS
from vaezoo.storage.files import write_file
from vaezoo.storage.json_files import canonical
from vaezoo.storage.model_card import UNSTATED, model_card
from vaezoo.storage.model_folder import CARD, copy_folder, read_metrics, save, write_metrics
from vaezoo.storage.terms import Terms
from vaezoo.workflows.draw import some_images
from vaezoo.workflows.load import finished, load
from vaezoo.zoo.index import bundled_models

SAMPLES, RECONSTRUCTIONS = "samples.png", "reconstructions.png"
PAIRS = 8  # images with their reconstructions
PATIENCE, TRIES = 30.0, 2  # seconds without a byte, and attempts, of each request
MEASURED = ("data", "split", "examples", "samples", "distortion", "rate")


def push(
    model: VAE | str | Path,
    repository: str,
    *,
    metrics: Mapping[str, object] | None = None,
    license: str | None = None,
    license_name: str | None = None,
    license_link: str | None = None,
    data_license: str | None = None,
    dataset: str | None = None,
    private: bool = False,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> str:
    """Publishes a model on the Hugging Face Hub in one commit, and returns "hf:owner/name@COMMIT", which loads it.

    The commit holds config, weights, metrics, pictures (samples, and reconstructions of public test images), a model
    card and, for the folder of a run and for models of the package, the recipe. Folders of data are named without the
    path to them.

    Args:
        model: a model, a pretrained model's name, or a model folder.
        repository: owner/name; created if it does not exist.
        metrics: the figures of `evaluate(...).as_dict()`; None for those of the folder.
        license: of the weights, an identifier of the Hub such as "mit" or "cc-by-4.0", or "other"; None states in the
            card that there is none.
        license_name: short name of a license "other".
        license_link: address of its text.
        data_license: license of the training data, in words; None for that of a registered data set.
        dataset: the training data on the Hub, as owner/name.
        private: whether a new repository is private; an existing one is not changed.
        revision: the branch; None for "main".
        commit_message: the first line of the commit.
        token: one with write access; None for the stored one (`HF_TOKEN`).
        dry_run: checks everything and sends nothing; returns "hf:owner/name". `preview` returns what would be sent.

    Raises:
        ConfigError: a malformed repository, an unknown license, a model without metrics, or one that was changed by
            hand.
        CorruptWeightsError: the folder is damaged.
        DownloadError: the Hub could not be reached, or refused.
    """
    target = destination(repository, revision, token)
    terms = Terms(
        license=license, license_name=license_name, license_link=license_link, data_license=data_license,
        dataset=dataset,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = staged(model, Path(scratch) / "model", target, metrics, terms)
        if dry_run:
            return f"hf:{target.name}"
        with hub_errors(f"{target} could not be published"):
            commit = send(target, folder, private, commit_message or f"Publish {target.name.partition('/')[2]}")
    return f"hf:{target.name}@{commit}"


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What `push` would send: the repository, the size of each file in bytes, and the card."""

    place: str
    files: Mapping[str, int]
    card: str

    def __str__(self) -> str:
        """Returns all of it as text."""
        lines = [f"  {name}  {size:,} bytes" for name, size in self.files.items()]
        return "\n".join([f"{self.place} would have these files:", *lines, "", f"{CARD}:", "", self.card])


def preview(
    model: VAE | str | Path,
    repository: str,
    *,
    metrics: Mapping[str, object] | None = None,
    terms: Terms = UNSTATED,
) -> Preview:
    """Returns what `push` would send; nothing is sent. Arguments and exceptions are those of `push`."""
    target = destination(repository, None, None)
    with tempfile.TemporaryDirectory() as scratch:
        folder = staged(model, Path(scratch) / "model", target, metrics, terms)
        files = {each.name: each.stat().st_size for each in sorted(folder.iterdir())}
        return Preview(place=f"hf:{target.name}", files=files, card=(folder / CARD).read_text(encoding="utf-8"))


def destination(repository: str, revision: str | None, token: str | None) -> Repository:
    """Returns the repository owner/name; raises ConfigError if it is malformed."""
    if "@" in repository:
        raise ConfigError(f"Got {shorten(repository)}; expected owner/name (and the branch as revision=…).")
    return Repository.of(f"hf:{repository}", revision, token=token)


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
    model: VAE | str | Path,
    folder: Path,
    target: Repository,
    metrics: Mapping[str, object] | None = None,
    terms: Terms = UNSTATED,
) -> Path:
    """Writes the verified files of a model for the Hub into `folder`, and returns it; see `push`."""
    source = None if isinstance(model, VAE) else finished(model)
    if isinstance(model, VAE):
        save(model, folder, metrics=metrics)
    elif source is not None:
        copy_folder(source, folder)
        if metrics is not None:
            write_metrics(folder, metrics)
    figures = read_metrics(folder) or {}
    missing = [key for key in MEASURED if figures.get(key) is None]
    if missing:
        raise ConfigError(
            f"This model has no figures ({', '.join(missing)} missing). Run `vaezoo evaluate FOLDER --write` before "
            "publishing (in Python: metrics=vaezoo.evaluate(model, data).as_dict())."
        )
    write_file(folder / METRICS, canonical(figures).encode())  # without paths, also if an earlier version wrote them
    config = read_config(folder)
    recipe = public_recipe(source, config)
    if recipe is not None:
        write_file(folder / OF_A_RUN, canonical(recipe).encode())
    name, pictures = target.name.partition("/")[2], draw_pictures(load(folder), folder)
    card = model_card(
        name, config, figures, address=f"hf:{target.name}", recipe=f"{name}/{OF_A_RUN}" if recipe is not None else "",
        before=[f"vaezoo pull hf:{target.name} --to {name}"], moved=True, pictures=pictures, terms=terms,
        published=True,
    )  # fmt: skip
    write_file(folder / CARD, card.encode())
    check_private(folder)
    return folder


def public_recipe(source: Path | None, config: Mapping[str, object]) -> dict[str, object] | None:
    """Returns the recipe of a model without paths of the user: that of its folder, or that of the package.

    None if neither is the one that the config records.
    """
    facts = cast(Mapping[str, object] | None, config.get("recipe"))
    places = [] if source is None else [source / OF_A_RUN, source.parent / OF_A_RUN]
    known = list_recipes().get(str(facts["name"])) if facts else None
    for place in [*places, *([known] if known else [])]:
        with suppress(VaezooError):
            recipe = read_recipe(place)
            if facts is not None and recipe.digest == facts["digest"]:
                tables = recipe.as_dict() | {"name": facts["name"]}
                tables["data"] = {**cast("dict[str, object]", tables["data"]), "name": public_name(recipe.data.name)}
                if recipe.init is not None:
                    tables["init"] = public_source(recipe.init)
                if recipe.teacher is not None:
                    tables["teacher"] = {
                        **cast("dict[str, object]", tables["teacher"]),
                        "name": public_source(recipe.teacher.name),
                    }
                return tables
    return None


def public_source(name: str) -> str:
    """Returns the name of a model that a recipe starts from, without the path of a folder of the user."""
    return f"./{public_name(name)}" if "/" in name and not name.startswith("hf:") else name


def check_private(folder: Path) -> None:
    """Raises ConfigError if a text in the folder has the path of the user's home folder."""
    with suppress(RuntimeError):
        home = str(Path.home())
        for path in sorted(folder.iterdir()):
            if len(home) > 1 and path.suffix in (".json", ".md") and home in path.read_text(encoding="utf-8"):
                raise ConfigError(
                    f"{path.name} would publish {home}, a path of your machine. Rename the recipe or the data set, or "
                    "leave the path out of the license."
                )


def draw_pictures(model: VAE, folder: Path) -> dict[str, str]:
    """Draws samples, and reconstructions if test images of the data are in the package or drawn; returns file -> text.

    Models of other data than images have no pictures. Images of the user are never published.
    """
    from vaezoo import pictures

    context, found = torch.arange(64) % model.context if model.context else None, dict[str, str]()
    with suppress(VaezooError):
        pictures.samples(model, 64, folder / SAMPLES, context, 0)
        found[SAMPLES] = "Samples of the prior, seed 0"
    data = cast("Mapping[str, object] | None", (model.config or {}).get("data")) or {}
    if needs_no_download(data.get("name")):
        with suppress(VaezooError):
            x, c = some_images(model, None, PAIRS)
            pictures.reconstructions(model, x, folder / RECONSTRUCTIONS, c)
            found[RECONSTRUCTIONS] = "Test images and their reconstructions"
    return found
