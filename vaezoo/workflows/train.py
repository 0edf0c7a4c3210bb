"""`train`: trains a model by a recipe and writes its folder."""

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TypeVar, cast

from msgspec import to_builtins
from msgspec.structs import asdict
from msgspec.structs import replace as with_fields

from vaezoo.core import VAE, learning, public_name
from vaezoo.data import (
    Dataset,
    EndlessDataset,
    ImageOptions,
    SeriesLayout,
    StreamedDataset,
    as_dataset,
    as_table,
    binarize,
    columns_of,
    in_layout,
    load_dataset,
    pad,
)
from vaezoo.errors import CheckpointError, ConfigError, ShapeError, UnknownNameError, printable
from vaezoo.recipe import Recipe, read_recipe
from vaezoo.storage.config import recordable_names, table_width
from vaezoo.storage.model_folder import check_savable, save
from vaezoo.trainer import Run, Trainer, build_model
from vaezoo.trainer.processes import Processes, process_group
from vaezoo.trainer.tracking import Service, Tracker, chosen_trackers
from vaezoo.workflows.distillation import distil
from vaezoo.workflows.initial_weights import initial_model, kept_factors, start_from, with_architecture
from vaezoo.workflows.run_folder import LOCAL, auto_folder, record_data, removed_if_empty
from vaezoo.workflows.training_cost import record_machine

Result = TypeVar("Result")
Around = Callable[[Trainer], AbstractContextManager[object]]
OWN_SPLIT = "split"  # a value of `validation` in `[data]`
BEGINNING = 8  # batches of an iterable data set that are read before the first step


@learning
def train(
    recipe: str | Path | dict[str, object] | Recipe,
    *overrides: str,
    data: object | None = None,
    out: str | Path | None = "auto",
    device: str = "auto",
    resume: bool = False,
    any_size: bool = False,
    extend: bool = False,
    trackers: Sequence[str | Tracker] | None = None,
    workers: int | None = None,
    around: Around | None = None,
    **changes: object,
) -> Run:
    """Trains a model by a recipe and returns the run, its model in eval mode.

    Args:
        recipe: a recipe's name ("vae-mnist"), a path that ends in .toml, a run's folder or its recipe.json, the tables
            as a dict, or a `Recipe`.
        *overrides: "key=value" strings.
        data: data instead of the recipe's: anything that `vaezoo.data.as_dataset` takes. An iterable data set without a
            length is read on as the steps need it, in its own order; a resumed run begins it anew and skips what was
            read, so that it is exact if the iterable always yields the same.
        out: the folder for checkpoints, metrics and the final model; "auto" takes a free one under runs/, None writes
            no files. One process at a time trains in a folder.
        device: "auto" takes a GPU if there is one.
        resume: continue from the newest valid checkpoint in `out`.
        any_size: continue a run also with another number of processes.
        extend: continue a run, finished or not, whose recipe now has another number of steps in the last stage, more
            stages, other learning rates, clipping or patience (`vaezoo.recipe.COURSE`).
        trackers: receivers of the metrics: names ("bar", "tensorboard", "trackio", "wandb") and objects with `start`,
            `log` and `close`; a progress bar by default. A tracker cannot change or end a run.
        workers: number of processes that read data larger than memory, see `load_dataset`; results do not depend on it.
        around: called with the trainer; returns a context in which the steps are taken.
        **changes: overrides by keyword: `steps=2_000`, `seed=1`. `validation` is a number of training images to hold
            out, or held-out data of your own in one of the forms of `data`.

    Raises:
        RecipeError: every mistake in the recipe at once.
        UnknownNameError, MissingExtraError: a tracker is unknown, or its package is not installed.
        DataError, DownloadError: the data are invalid or cannot be downloaded.
        NonFiniteLossError, InterruptedTrainingError, CheckpointError: see `Trainer.fit`.
    """
    chosen, held = with_validation(recipe, overrides, changes)
    with process_group(device) as place, ExitStack() as stack:
        ranks = Processes.current()
        folder = None
        if out is not None:  # the same in all processes
            if out == "auto" and ranks.first:
                folder = auto_folder(chosen, resume or extend, recipe)
            folder = Path(ranks.broadcast_text(str(folder or out), place))
            stack.enter_context(removed_if_empty(folder if out == "auto" and ranks.first else None))
        receivers = trackers_of(trackers, chosen, folder) if ranks.first else []
        training, held_out = one_by_one(ranks, lambda: training_data(chosen, data, held, workers))
        chosen, model, fresh = one_by_one(ranks, lambda: started(chosen, training))
        model.config = {**(model.config or {}), **facts_of(chosen, training, data)}
        if folder is not None and ranks.first:
            check_savable(model, folder)
            prepare_folder(folder, resume or extend)
            if not (folder / LOCAL).exists():
                record_data(folder, chosen.data.name if data is None else data)
            record_machine(folder, place)
        trainer = Trainer(
            chosen, model, training, held_out=held_out, folder=folder, device=place, trackers=receivers, fresh=fresh,
            any_size=any_size,
        )  # fmt: skip
        stack.enter_context(nullcontext() if around is None else around(trainer))
        return trainer.fit(resume, extend, lambda run: finish(run, data, ranks))


def started(recipe: Recipe, training: Dataset) -> tuple[Recipe, VAE, list[str] | None]:
    """Returns the recipe with the architecture of `init`, its model, and the parts that `init` lacks.

    Raises:
        ConfigError: `init` or the teacher does not fit the model.
    """
    source = initial_model(recipe)
    recipe = with_architecture(recipe, source, training.shape)
    model = build_model(recipe, training)
    fresh = start_from(model, recipe.init, source)
    model.config = {**(model.config or {}), **kept_factors(model, source)}
    distil(model, recipe.teacher)
    return recipe, model, fresh


def with_validation(
    recipe: str | Path | dict[str, object] | Recipe, overrides: Sequence[str], changes: dict[str, object]
) -> tuple[Recipe, object | None]:
    """Returns the recipe with its overrides, and a validation set of the caller's own, which replaces its number."""
    held = changes.get("validation")
    if held is None or isinstance(held, Integral) or (isinstance(held, str) and held == OWN_SPLIT):
        return recipe if isinstance(recipe, Recipe) else read_recipe(recipe, overrides, **changes), None
    rest = {key: value for key, value in changes.items() if key != "validation"}
    if not isinstance(recipe, Recipe):
        return read_recipe(recipe, [*overrides, "data.validation=0"], **rest), held
    return with_fields(recipe, data=with_fields(recipe.data, validation=0)), held


def facts_of(recipe: Recipe, training: Dataset, data: object | None = None) -> dict[str, object]:
    """Returns the fields `data` and `recipe` of a config; reads all streamed images, which finds broken ones."""
    images = {"name": printable(public_name(training.name)), "binarize": recipe.data.binarize, **images_of(recipe)}
    labelled = recipe.data.context and training.context is None
    names = recordable_names(training.class_names, training.classes or 0) if labelled else None
    columns = recordable_names(columns_of(data), table_width(training.shape), columns=True)
    layout = None if training.layout is None else to_builtins(training.layout)
    kind = "series" if isinstance(training.layout, SeriesLayout) else "table"
    facts = {"class_names": names, "columns": columns, kind: layout}
    named = {key: value for key, value in facts.items() if value is not None}
    return {
        "data": {**images, "digest": training.digest, **named},
        "recipe": {"name": printable(recipe.name), "digest": recipe.digest},
    }


def finish(run: Run, data: object | None, ranks: Processes) -> None:
    """Records extensions in the config of the trained model, and saves it."""
    config = dict(run.model.config or {})
    if run.extensions:
        config["recipe"] = {**cast("dict[str, object]", config["recipe"]), "extensions": run.extensions}
    run.model.config = config
    if run.folder is not None and ranks.first:
        save(run.model, run.folder)
        record_data(run.folder, run.recipe.data.name if data is None else data)
    ranks.wait()


def trackers_of(trackers: Sequence[str | Tracker] | None, recipe: Recipe, folder: Path | None) -> list[Tracker]:
    """Returns the trackers of a run; prepares those of services with its folder and recipe."""
    chosen = chosen_trackers(trackers)
    for each in chosen:
        if isinstance(each, Service):
            each.prepare(folder, json.loads(json.dumps(recipe.as_dict())))
    return chosen


def one_by_one(ranks: Processes, work: Callable[[], Result]) -> Result:
    """Returns the result of `work`, which the first process runs before the others, so that only it downloads."""
    if not ranks.first:
        ranks.wait()
    try:
        return work()
    finally:
        if ranks.first:
            ranks.wait()


def images_of(recipe: Recipe) -> dict[str, object]:
    """Returns the settings of `[data]` that `evaluate` applies to test images, as the model's config records them."""
    table = recipe.data
    used = {"pad": table.pad, "split": "all" if table.split == "all" else ""}
    return {**{key: value for key, value in used.items() if value}, **ImageOptions.among(asdict(table)).facts()}


def training_data(
    recipe: Recipe, data: object | None, held: object | None, workers: int | None
) -> tuple[Dataset, Dataset | None]:
    """Returns the training set as the recipe pads, binarizes and hides labels, and the held-out set or None.

    `held` is a held-out set of the caller's own.
    """
    options = ImageOptions.among(asdict(recipe.data))
    whole = named_data(recipe, options, workers) if data is None else given_data(recipe, data, options, workers)
    if workers is not None and isinstance(whole, StreamedDataset):
        whole = replace(whole, workers=workers)
    whole = pad(whole, recipe.data.pad)
    held_out = None
    if isinstance(recipe.data.validation, int) and recipe.data.validation:
        whole, held_out = whole.split_off(recipe.data.validation, recipe.seed)
    if held is None and recipe.data.validation == OWN_SPLIT:
        held = own_validation(recipe, data)
    if held is not None:
        held = in_layout(held, "validation", recipe.data.name, whole.layout, columns_of(data))
        found = as_dataset(held, "validation", options=options, workers=workers, name=recipe.data.name)
        held_out = pad(replace(found, split="validation"), recipe.data.pad)
        if held_out.shape != whole.shape:
            raise ShapeError(
                f"Got validation examples of shape {held_out.shape}; the training examples have {whole.shape}. Convert "
                "both in the same way."
            )
    if held_out is not None:
        held_out = binarize(held_out, recipe.data.binarize)
    if recipe.data.labels:
        whole = whole.hide_labels(recipe.data.labels, recipe.seed)
    return binarize(whole, recipe.data.binarize), held_out


def named_data(recipe: Recipe, options: ImageOptions, workers: int | None) -> Dataset:
    """Returns the data set that a recipe names; see `load_dataset`."""
    try:
        table = recipe.data
        return load_dataset(
            table.name, table.split, workers=workers, **options.facts(), window=table.window, stride=table.stride
        )
    except UnknownNameError as error:
        hint = (
            "After a training on data passed from Python pass them again, vaezoo.train(recipe, data=data), or name a "
            "data set (--data NAME)."
        )
        raise UnknownNameError(error.kind, error.name, error.known, f"{error.hint} {hint}".strip()) from None


def own_validation(recipe: Recipe, data: object | None) -> str:
    """Returns the name of the data set, whose validation split is held out.

    Raises:
        ConfigError: the data have no name.
    """
    name = recipe.data.name if data is None else data
    if not isinstance(name, str):
        raise ConfigError(
            f'Got validation = "{OWN_SPLIT}" with data of the type {type(data).__name__}, which have no splits. Pass '
            "the held-out examples as validation=, or set a number of examples."
        )
    return name


def given_data(recipe: Recipe, data: object, options: ImageOptions, workers: int | None) -> Dataset:
    """Returns data passed from Python; of an iterable without a length only a beginning, unless a stage has epochs."""
    largest = max(stage.batch_size for stage in recipe.stages)
    total = (
        sum(stage.steps * stage.batch_size * stage.accumulation for stage in recipe.stages) * Processes.current().size
    )
    held_out = recipe.data.validation if isinstance(recipe.data.validation, int) else 0
    if recipe.data.window or recipe.data.stride:
        raise ConfigError(
            f"Got window = {recipe.data.window} and stride = {recipe.data.stride} with data passed from Python; "
            'expected a file, data.name = "series:FILE.npz". Pass vaezoo.data.series(…, window=…) instead.'
        )
    if likelihood_name(recipe) == "mixed":
        data = as_table(data, recipe.data.split, recipe.data.name)
    beginning = held_out + max(largest, min(BEGINNING * largest, total))
    found = as_dataset(
        data,
        recipe.data.split,
        options=options,
        image_key=recipe.data.image_key,
        beginning=beginning if all(stage.steps for stage in recipe.stages) else None,
        workers=workers,
        name=recipe.data.name,
    )
    return replace(found, total=total) if isinstance(found, EndlessDataset) else found


def likelihood_name(recipe: Recipe) -> str:
    """Returns the name of the likelihood that a recipe sets; "" if it sets none."""
    choice = recipe.architecture.likelihood
    return str(choice.get("name") if isinstance(choice, dict) else choice or "")


def prepare_folder(folder: Path, resume: bool) -> None:
    """Creates the folder of a run.

    Raises:
        CheckpointError: it holds another run, or cannot be written.
    """
    if (folder / "metrics.jsonl").exists() and not resume:
        raise CheckpointError(
            f"{folder} already holds a run. Continue it with resume=True (--resume), or choose another folder (--out)."
        )
    if resume and not (folder / "checkpoints").exists():
        warnings.warn(f"{folder} holds no checkpoint: the run starts from the beginning.", stacklevel=3)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"Could not create {folder}: {error}. Choose another folder (--out).") from None
