"""`compare`: models on one data set, in one table."""

import hashlib
import json
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch

from vaezoo.core import VAE, whole_number
from vaezoo.data import ImageOptions, as_dataset, datasets
from vaezoo.errors import ConfigError, InterruptedTrainingError, UnknownNameError, VaezooError, warn
from vaezoo.evaluation import Estimate
from vaezoo.evaluation.metric import Value
from vaezoo.evaluation.report import measured
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.likelihoods.bernoulli import Bernoulli
from vaezoo.recipe import Recipe, list_recipes, read_recipe
from vaezoo.registry import check_named, is_variant, likelihoods, resolve, variants, with_requirements
from vaezoo.storage.config import CONFIG, read_config
from vaezoo.workflows.comparison import Comparison, Failure, Row
from vaezoo.workflows.load import load, locate
from vaezoo.workflows.train import Around, train
from vaezoo.zoo.index import read_index

COLORS = 3  # channels
SHOWN = 5  # names in a warning
TENTH = 10  # one of so many examples of a set without splits is for the test


def expand(names: Sequence[str]) -> list[str]:
    """Returns the names; "all" becomes every variant that can be loaded, composed with those that it requires."""
    names = [names] if isinstance(names, str) else names
    everything = [*map(with_requirements, variants.available()[0])] if "all" in names else []
    return [each for name in names for each in (everything if name == "all" else [name])]


def default_folder(names: Sequence[str], **options: object) -> Path:
    """Returns the folder of a comparison in the current one, the same for the same names and options."""
    text = json.dumps([list(names), options], sort_keys=True)
    words = re.sub(r"[^\w.+-]+", "-", "-".join(names)).strip("-.")[:60] or "models"
    return Path("comparisons") / f"{words}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def recipe_for(
    variant: str,
    data: object,
    steps: int,
    seed: int,
    size: int | Sequence[int] | None = None,
    likelihood: str | Mapping[str, object] | None = None,
) -> Recipe:
    """Returns the recipe that a comparison trains a variant by; the name of own data is their digest."""
    name = data if isinstance(data, str) else f"own-{as_dataset(data).digest[:8]}"
    conditional = any(entry.context != "optional" for entry in resolve(variant))
    binarize = "dynamic" if is_binary(variant, likelihood) else "none"
    return read_recipe(
        {
            "variant": variant,
            "seed": seed,
            "architecture": {"likelihood": likelihood},
            "data": {"name": name, "size": size, "binarize": binarize, "context": conditional},
            "train": {"steps": steps, "batch_size": 100, "learning_rate": 1e-3, "schedule": "cosine"},
        }
    )


def is_binary(variant: str, likelihood: str | Mapping[str, object] | None) -> bool:
    """Returns whether a comparison trains a variant on binarized images: those whose likelihood is Bernoulli."""
    defaults = [entry.defaults.get("likelihood") for entry in resolve(variant)]
    if likelihood is None:
        return not any(defaults)
    head = likelihoods.get(name_of(likelihood))
    return isinstance(head, type) and issubclass(head, Bernoulli)


def name_of(likelihood: str | Mapping[str, object]) -> str:
    """Returns the name of a likelihood or of a table of its name and options."""
    return likelihood if isinstance(likelihood, str) else str(likelihood.get("name"))


def compare(
    names: str | Sequence[str],
    *,
    data: object = "mnist",
    steps: int = 2000,
    seeds: int = 1,
    samples: int = 500,
    limit: int | None = 1_000,
    size: int | Sequence[int] | None = None,
    likelihood: str | Mapping[str, object] | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    report: Callable[[str], None] | None = None,
    around: Around | None = None,
) -> Comparison:
    """Compares models on the same images; its tables are shown by a notebook, or printed by `print(found.markdown())`.

    Names are those of pretrained models, folders (with a slash), Hub repositories (hf:…) and variants (also composed),
    or "all" of the variants. Variants are trained on `data` for `steps`, once for each seed; of data without a name
    (see `vaezoo.data.as_dataset`) a tenth is held out for the test. With the same folder `out` a comparison that was
    stopped continues. If one of several models cannot be trained or evaluated, its line is a `Failure`, which has the
    reason.

    Args:
        names: one name or several.
        data: a name, or data in one of the forms of `vaezoo.data.as_dataset`, for the evaluation and the trainings.
        steps: of the training of each variant.
        seeds: number of runs of each variant.
        samples: K of the importance-weighted evidence; 0 for none.
        limit: number of test images, chosen with a fixed seed; None for all.
        size: number of pixels of square images, or height and width, to which the images of trained variants are
            scaled and cropped; None keeps the size.
        likelihood: that of the trained variants, a name or a table of name and options; None for the default of each.
            With "bernoulli", the default of most, and "autoregressive-bernoulli" images are binarized, which gives a
            warning if they have colors.
        device: "auto" takes a GPU if there is one.
        out: folder of the runs; None writes no files.
        report: called with the name of each model before its training.
        around: that of `vaezoo.train`.

    Raises:
        UnknownNameError: neither a pretrained model nor a variant; or no such data set or likelihood.
        ConfigError: no models, or no seeds.
        InterruptedTrainingError: Ctrl-C or SIGTERM during the training of a variant.
    """
    return Comparison(
        compared(
            names, data=data, steps=steps, seeds=seeds, samples=samples, limit=limit, device=device,
            out=None if out is None else Path(out), report=report, around=around, size=size, likelihood=likelihood,
        )
    )  # fmt: skip


def common_data(names: Sequence[str]) -> str:
    """Returns the registered data set that all trained models among `names` were trained on; "mnist" if none."""
    found = set()
    for name in filter(is_trained, names):
        with suppress(VaezooError):
            table = read_config(locate(name)).get("data")
            found.add(str(table.get("name")) if isinstance(table, dict) else "")
    (only,) = found if len(found) == 1 else ("mnist",)
    return only if only in datasets.names() else "mnist"


def compared(
    names: Sequence[str], *, data: object, steps: int, seeds: int, samples: int, limit: int | None, device: str,
    out: Path | None, report: Callable[[str], None] | None, around: Around | None,
    size: int | Sequence[int] | None = None, likelihood: str | Mapping[str, object] | None = None,
) -> Iterator[Row | Failure]:  # fmt: skip
    """Yields the lines of `compare`, each when its model is evaluated."""
    seeds, samples = whole_number(seeds, "seeds", 1), whole_number(samples, "samples", 0)
    limit = None if limit is None else whole_number(limit, "limit", 1)
    wanted = expand(names)
    if not wanted:
        raise ConfigError("Got no model to compare; expected names, such as vae iwae, or all.")
    trained = [name for name in wanted if not is_trained(name)]
    for name in trained:  # before the first of them is trained
        check_variant(name)
    if likelihood is not None:
        check_named(likelihoods, name_of(likelihood))
    training, test, shape = both_splits(data, ImageOptions.of(size=size))
    warn_of_colors(shape, [name for name in trained if is_binary(name, likelihood)])
    recipe = partial(recipe_for, data=training, steps=steps, size=size, likelihood=likelihood)
    for number, name in enumerate(wanted, 1):
        if report is not None:
            report(f"{name} ({number} of {len(wanted)})")
        try:
            recipes = [] if is_trained(name) else [recipe(name, seed=seed) for seed in range(seeds)]
            models = models_for(name, recipes, data=training, device=device, out=out, around=around)
            yield row_of(name, models, test, samples, limit)
        except InterruptedTrainingError as error:
            kept = f"the same call continues with the runs in {out}" if out else "use out (--out) to keep runs"
            raise InterruptedTrainingError(
                f"Stopped at {name}, {number} of {len(wanted)}; {kept}.", error.exit_status - 128
            ) from None
        except VaezooError as error:
            if len(wanted) == 1:
                raise
            yield Failure(name=name, reason=f"{error.code}: {error}")


def both_splits(data: object, options: ImageOptions) -> tuple[object, object, tuple[int, ...]]:
    """Returns the training set, the test set, and the shape of an example.

    Both sets are the name of a set that has them, or nine tenths and the rest of other data.
    """
    if isinstance(data, str):
        return data, data, as_dataset(data, "test", options=options).shape
    whole = as_dataset(data, options=options)
    rest, held_out = whole.split_off(max(1, len(whole) // TENTH), 0)
    return replace(rest, split="train"), replace(held_out, split="test"), whole.shape


def warn_of_colors(shape: tuple[int, ...], binary: Sequence[str]) -> None:
    """Warns if images of colors are binarized, to train the variants `binary`."""
    if binary and len(shape) == 3 and shape[0] == COLORS:
        names = ", ".join([*binary[:SHOWN], *(["…"] if len(binary) > SHOWN else [])])
        warn(
            f"The color images are binarized, each channel at random, for variants with a Bernoulli likelihood "
            f"({names}); their figures are those of binary images. For a likelihood of colors set "
            'likelihood="discretized-logistic" (--likelihood discretized-logistic).'
        )


def row_of(name: str, models: Sequence[VAE], data: object, samples: int, limit: int | None) -> Row:
    """Returns the row of a model, or the means over models that were trained with different seeds."""
    chosen = [limited(test_set(model, data), limit) for model in models]
    pairs = [
        measured(model, part, samples, subset_seed=seed) for model, (part, seed) in zip(models, chosen, strict=True)
    ]
    evidences = [each for _, each in pairs if each is not None]
    reports = [report for report, _ in pairs]
    values = {key: mean_value([each.values[key] for each in reports]) for key in reports[0].values}
    means = [float(each.double().mean()) for each in evidences]
    return Row(
        name=name,
        report=reports[0] if len(models) == 1 else replace(reports[0], values=values),
        seeds=len(models),
        spread=statistics.stdev(means) if len(means) > 1 else None,
        images_per_second=speed(models[0]),
        model=models[0],
        evidences=torch.stack(evidences).double().mean(0) if len(evidences) == len(models) else None,
        statistics=chosen[0][0].digest,
    )


def mean_value(values: Sequence[Value]) -> Value:
    """Returns the mean of a metric over runs, of an estimate with the mean standard error; None if one is missing."""
    if any(value is None or (isinstance(value, Estimate) and value.mean is None) for value in values):
        return Estimate(mean=None) if isinstance(values[0], Estimate) else None
    estimates = [value for value in values if isinstance(value, Estimate)]
    if estimates:
        means, errors = [cast(float, each.mean) for each in estimates], [each.error or 0.0 for each in estimates]
        return Estimate(mean=statistics.mean(means), error=statistics.mean(errors))
    mean = statistics.mean(cast("list[float]", values))
    return round(mean) if isinstance(values[0], int) else mean


def is_trained(name: str) -> bool:
    """Returns whether a name is that of a trained model: pretrained, a folder, or on the Hub."""
    return name in read_index() or "/" in name or name.startswith("hf:")


def check_variant(name: str) -> None:
    """Raises UnknownNameError or CompositionError unless `name` is that of a variant or a valid composition."""
    try:
        resolve(name)
    except UnknownNameError:
        if is_variant(name):  # of a package that cannot be loaded
            raise
        known, hint = [*read_index(), *variants.names()], ""
        if name in list_recipes():
            known, hint = [], f"{name!r} is a recipe: train it (vaezoo train {name}) and pass its run (runs/{name})."
        raise UnknownNameError("model or variant", name, known, hint) from None


def models_for(
    name: str, recipes: Sequence[Recipe], *, data: object, device: str, out: Path | None, around: Around | None
) -> list[VAE]:
    """Returns the model of a pretrained name or folder, or one that each recipe trains; those in `out` are kept."""
    if is_trained(name):
        return [load(name, device=device)]
    models, own = [], None if isinstance(data, str) else data
    for recipe in recipes:
        if out is None:
            models.append(train(recipe, data=own, out=None, device=device, around=around).model)
            continue
        folder = out / f"{recipe.variant}-{recipe.digest[:8]}"
        if not (folder / CONFIG).exists():  # it is written last
            train(recipe, data=own, out=folder, device=device, resume=folder.exists(), around=around)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        models.append(load(f"{folder}/", device=device))
    return models


@torch.no_grad()
def speed(model: VAE, rows: int = 256, rounds: int = 5) -> float:
    """Returns the number of images that the model reconstructs per second, the median of several rounds."""
    device = next(model.parameters()).device
    x = torch.zeros(rows, *(model.shape or ()), device=device)
    c = torch.zeros(rows, dtype=torch.int64, device=device) if model.context else None
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        model.reconstruct(x, c).sum().item()
        times.append(time.perf_counter() - start)
    return rows / statistics.median(times[1:])
