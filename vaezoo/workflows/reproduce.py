"""`reproduce`: measures a model again, or trains and measures it again, and compares with its recorded figures."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from vaezoo.core import VAE, whole_number
from vaezoo.errors import ConfigError, shorten
from vaezoo.evaluation import Report, evaluate
from vaezoo.evaluation.measurement_settings import MeasurementSettings
from vaezoo.evaluation.metric import Metric, all_metrics
from vaezoo.recipe import OF_A_RUN, Published, Recipe, list_recipes, published_metrics, read_recipe
from vaezoo.storage.model_folder import read_metrics
from vaezoo.workflows.leaderboard import depends_on_samples
from vaezoo.workflows.load import finished, load
from vaezoo.workflows.measure import data_of, in_the_literature
from vaezoo.workflows.run_folder import own_data
from vaezoo.workflows.tables import Record, Table
from vaezoo.workflows.train import Around, train

SHARE = 0.01  # of a figure without a standard error, for a tolerance of one
ROUNDING = 1e-5  # of a figure whose standard error is about zero, such as the rate of uniform codes
OTHER_DRAWS = 3.0  # standard errors, where images or weights are others


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A recorded figure and that of the new measurement.

    Args:
        figure: key of the metric.
        title: name, with K and unit.
        digits: digits after the decimal point in tables.
        recorded: mean; of a figure with several numbers, the one that differs most.
        again: likewise; None if it was not measured.
        error: standard error with which the difference is compared; None for a figure without one.
        tolerance: the largest difference that agrees; None if the two do not compare.
    """

    figure: str
    title: str
    digits: int
    recorded: float
    again: float | None
    error: float | None
    tolerance: float | None

    @property
    def difference(self) -> float | None:
        """The new figure minus the recorded one."""
        return None if self.again is None else self.again - self.recorded

    @property
    def agrees(self) -> bool | None:
        """Whether the difference is within the tolerance; None if the two do not compare."""
        if self.tolerance is None:
            return None
        return self.difference is not None and abs(self.difference) <= self.tolerance

    def cells(self) -> tuple[str, ...]:
        """Returns the cells of a table."""
        verdict = {True: "yes", False: "NO", None: "–"}[self.agrees]
        numbers = (self.recorded, self.again, self.error)
        recorded, again, error = ("–" if each is None else f"{each:,.{self.digits}f}" for each in numbers)
        changed = "–" if self.difference is None else f"{self.difference:+,.{self.digits}f}"
        return (self.title, recorded, again, changed, error, verdict)


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The recorded figures of a model beside those of a new measurement.

    Args:
        name: the model.
        settings: those of the new measurement.
        examples: number of test images of the new measurement.
        trained: whether the model was trained again.
        folder: that of the new training.
        tolerance: the largest difference that agrees, in standard errors.
        differences: one for each recorded figure.
        metrics: all new figures, as in `metrics.json`.
        literature: figures of the literature.
    """

    name: str
    settings: MeasurementSettings
    examples: int
    trained: bool
    folder: Path | None
    tolerance: float
    differences: Sequence[Difference]
    metrics: Mapping[str, object]
    literature: Published | None = None

    @property
    def agrees(self) -> bool:
        """Whether all figures that compare agree, and at least one compares."""
        found = [each.agrees for each in self.differences if each.agrees is not None]
        return bool(found) and all(found)

    def table(self) -> Table:
        """Returns the differences as a table, with the verdict below it."""
        weights = f"trained again in {self.folder}" if self.trained else "the recorded weights"
        headings = ("figure", "recorded", "again", "difference", "error", "agrees")
        return Table(
            headings=headings,
            rows=[each.cells() for each in self.differences],
            title=f"{self.name}: {weights}, {self.examples:,} test images of {self.settings.data}",
            notes=self.notes(),
            figures=headings[1:],
        )

    def notes(self) -> list[str]:
        """Returns the verdict, the tolerances, and the figures of the literature."""
        wrong = [each.figure for each in self.differences if each.agrees is False]
        compared = sum(each.agrees is not None for each in self.differences)
        if wrong:
            verdict = f"{len(wrong)} of {compared} figures differ by more than the tolerance: {', '.join(wrong)}."
        else:
            verdict = f"All {compared} figures that compare agree." if compared else "No figure compares."
        rule = f"Tolerance: {self.tolerance:g} standard error{'s' * (self.tolerance != 1)}"
        share = "" if self.settings.limit else f", or {100 * SHARE * self.tolerance:g} % of a figure without one"
        found = [] if self.literature is None else [in_the_literature(self.literature, self.metrics)]
        return [verdict, f"{rule} over the images (error){share}.", *found]

    def record(self) -> Record:
        """Returns the differences as plain values."""
        figures = [
            {key: value for key, value in asdict(each).items() if key not in ("title", "digits")}
            | {"difference": each.difference, "agrees": each.agrees}
            for each in self.differences
        ]
        about = {"name": self.name, "trained": self.trained, "folder": str(self.folder) if self.folder else None}
        settings = {**asdict(self.settings), "examples": self.examples}
        found: dict[str, object] = {**about, "agrees": self.agrees, "tolerance": self.tolerance, "settings": settings}
        if self.literature is not None:
            found["literature"] = {**self.literature.metrics, **self.literature.facts}
        return {**found, "figures": figures}


def reproduce(
    name: str | Path,
    *,
    train: bool = False,
    samples: int | None = None,
    limit: int | None = None,
    tolerance: float | None = None,
    device: str = "auto",
    out: str | Path | None = "auto",
    resume: bool = False,
    bar: Callable[[int, int], None] | None = None,
    around: Around | None = None,
) -> Reproduction:
    """Measures a model with the settings of its recorded figures, and returns the differences.

    The same weights on the same images with the same seed give the same figures up to rounding; so a difference of more
    than one standard error means that something else was measured.

    Args:
        name: a pretrained model, "hf:owner/name", or a model folder with figures (`vaezoo evaluate NAME --write`).
        train: train the model again by its recipe, on the recipe's data and with its seed, and measure the new one.
        samples: K of the evidence, if not the recorded one; figures that depend on K are then not compared.
        limit: number of test images, a part of the recorded ones; figures without a standard error are then not
            compared, and the standard error is that of the difference between a part and the whole.
        tolerance: the largest difference that agrees: in standard errors, and in percent of a figure that has none. By
            default 1, and 3 with `train` or `limit`, where weights or images are others.
        device: where to compute.
        out: folder of the new training, as in `vaezoo.train`.
        resume: continue the new training from its newest checkpoint in `out`.
        bar: called with (draws done, all draws) of the evaluation.
        around: see `vaezoo.train`.

    Raises:
        UnknownNameError: no such model.
        ConfigError: it has no recorded figures, the recipe is missing or has changed, or an argument is out of range.
        DataError, DownloadError: the data are not available.
        RecipeError, NonFiniteLossError, InterruptedTrainingError, CheckpointError: see `vaezoo.train`.
    """
    check_arguments(train, tolerance, out, resume)
    folder = finished(name)
    recorded = read_metrics(folder)
    if recorded is None:
        raise ConfigError(f"{name} has no recorded figures. Measure them: vaezoo evaluate {name} --write.")
    examples = cast(int, recorded["examples"])
    settings = changed(MeasurementSettings.of(recorded), samples, limit, examples)
    model, place = load(name, device=device), None
    config = model.config or {}
    if train:
        model, place = trained_again(name, folder, config, device, out, resume, around)
    metrics = measured_again(model, name, settings, bar).as_dict()
    present = cast(int, metrics["examples"])
    units = tolerance if tolerance is not None else OTHER_DRAWS if train or present < examples else 1.0
    recipe = config.get("recipe")
    return Reproduction(
        name=str(name),
        settings=settings,
        examples=present,
        trained=train,
        folder=place,
        tolerance=units,
        differences=differences(recorded, metrics, units, counts=train),
        metrics=metrics,
        literature=published_metrics(str(recipe["name"])) if isinstance(recipe, dict) else None,
    )


def check_arguments(train: bool, tolerance: object, out: str | Path | None, resume: bool) -> None:
    """Raises ConfigError for a tolerance out of range, and for arguments of a training without one."""
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
    if tolerance is not None and not (number and 0 <= cast(float, tolerance) < math.inf):
        raise ConfigError(f"Got tolerance = {shorten(tolerance)}; expected a number of standard errors, at least 0.")
    if not train and (resume or out not in ("auto", None)):
        raise ConfigError("Got out or resume without train; they are those of the new training. Set train (--train).")


def measured_again(
    model: VAE, name: str | Path, settings: MeasurementSettings, bar: Callable[[int, int], None] | None
) -> Report:
    """Returns the figures of a model by given settings; `name` is that of the model with the recorded ones."""
    trained_on = cast(Mapping[str, object], (model.config or {}).get("data") or {}).get("name")
    return evaluate(
        model,
        data_of(model, own_data(name, None if settings.data == trained_on else settings.data)),
        settings.samples,
        binarize=settings.binarize,
        limit=settings.limit,
        seed=settings.seed,
        thorough=settings.thorough,
        report=bar,
    )


def changed(
    settings: MeasurementSettings, samples: int | None, limit: int | None, examples: int
) -> MeasurementSettings:
    """Returns the settings with K and a number of examples of the caller, of which no more than the recorded count."""
    if limit is not None and whole_number(limit, "limit", 1) < examples:
        settings = replace(settings, limit=limit)
    return settings if samples is None else replace(settings, samples=samples)


def trained_again(
    name: str | Path,
    folder: Path,
    config: Mapping[str, object],
    device: str,
    out: str | Path | None,
    resume: bool,
    around: Around | None,
) -> tuple[VAE, Path | None]:
    """Trains by the recipe of a model; returns the new model and its folder."""
    chosen = own_data(name, None)
    recipe = recipe_of(name, folder, config)
    overrides = [] if chosen is None else [f"data.name={json.dumps(chosen, ensure_ascii=False)}"]
    run = train(recipe, *overrides, out=out, device=device, resume=resume, around=around)
    return run.model, run.folder


def recipe_of(name: str | Path, folder: Path, config: Mapping[str, object]) -> Recipe:
    """Returns the recipe of a model, from its folder or from the package.

    Raises:
        ConfigError: there is none, or not the one that the model was trained by.
    """
    known = cast(Mapping[str, object] | None, config.get("recipe"))
    places = [each for each in (folder, Path(name)) if (each / OF_A_RUN).is_file()]
    source = places[0] if places else None if known is None else str(known["name"])
    if known is None or source is None or (isinstance(source, str) and source not in list_recipes()):
        raise ConfigError(f"The recipe of {name} is neither in its folder nor in the package. Leave out --train.")
    recipe = read_recipe(source)
    if recipe.digest != known["digest"]:
        raise ConfigError(
            f"{name} was trained by a recipe with digest {str(known['digest'])[:12]}…; the present one has "
            f"{recipe.digest[:12]}…. Use the version of vaezoo that made the model, or leave out --train."
        )
    return recipe


def differences(
    recorded: Mapping[str, object], again: Mapping[str, object], units: float, *, counts: bool = False
) -> list[Difference]:
    """Returns the difference of each recorded figure, in the order of cards.

    Args:
        recorded: figures as in `metrics.json`.
        again: those of the new measurement, of the same images or of a part of them.
        units: tolerance, in standard errors.
        counts: whether counts, such as that of active units, may differ by one.
    """
    total, present = (cast(int, each["examples"]) for each in (recorded, again))
    return [
        compared(key, metric, recorded, again, units, share=1.0 - present / total, counts=counts)
        for key, metric in all_metrics().items()
        if numbers_of(recorded.get(key))
    ]


def compared(
    key: str,
    metric: Metric,
    recorded: Mapping[str, object],
    again: Mapping[str, object],
    units: float,
    *,
    share: float,
    counts: bool,
) -> Difference:
    """Returns the difference of one figure; `share` is that of the recorded examples that were not measured again."""
    before, after = numbers_of(recorded[key]), numbers_of(again.get(key))
    place = 0
    if len(before) == len(after):
        place = max(range(len(before)), key=lambda index: abs(after[index] - before[index]))
    error = error_of(recorded[key])
    if share > 0.0 and error is not None:  # of the mean of a part minus that of the whole
        error = None if (part := error_of(again.get(key))) is None else part * math.sqrt(share)
    slack = 1.0 if counts and isinstance(recorded[key], int) else 0.0
    without = None if share > 0.0 else units * max(SHARE * abs(before[place]), slack / OTHER_DRAWS)
    tolerance = without if error is None else max(units * error, ROUNDING * abs(before[place]))
    if depends_on_samples(metric) and recorded.get("samples") != again.get("samples"):
        tolerance = None
    return Difference(
        figure=key,
        title=metric.title(recorded),
        digits=0 if isinstance(recorded[key], int) else max(metric.digits + 1, 3),
        recorded=before[place],
        again=after[place] if len(after) == len(before) else None,
        error=error,
        tolerance=tolerance,
    )


def numbers_of(value: object) -> list[float]:
    """Returns the mean of a stored estimate, a number, or several, as a list; an empty one if it is missing."""
    value = value.get("mean") if isinstance(value, Mapping) else value
    if value is None:
        return []
    return [float(each) for each in value] if isinstance(value, list | tuple) else [float(cast(float, value))]


def error_of(value: object) -> float | None:
    """Returns the standard error of a stored estimate, None if it has none."""
    return cast(float | None, value.get("error")) if isinstance(value, Mapping) else None
