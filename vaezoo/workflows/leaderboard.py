"""The leaderboard: each figure of each pretrained model, with how it is measured again and what its training cost.

Nothing in it is typed by hand: figures, settings and costs are those of the index of pretrained models, seeds, digests
and figures of the literature those of the recipes. `python -m vaezoo.workflows.leaderboard benchmarks/leaderboard.json`
writes the file again.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from vaezoo.evaluation.measurement_settings import MeasurementSettings
from vaezoo.evaluation.metric import Metric, all_metrics
from vaezoo.recipe import Published, Recipe, read_recipe
from vaezoo.storage.files import write_file
from vaezoo.workflows.listing import is_mass
from vaezoo.workflows.tables import Record
from vaezoo.zoo.index import list_models, read_index


def leaderboard(pattern: str = "*") -> list[Record]:
    """Returns one record for each figure of each pretrained model whose name matches a shell pattern.

    A record has the figure's value and standard error over the images (nats, or the `unit`), the facts that two figures
    must share to compare (`data`, `examples`, `binarization`, `measure`, and `samples`, which is K), the command that
    measures it, recipe, seed and digest of the training, its cost, and the figure of the literature, if the recipe has
    one. What does not apply is left out.
    """
    return [row for name in list_models(pattern) for row in rows_of(name)]


def rows_of(name: str) -> Iterator[Record]:
    """Yields the records of a pretrained model, in the order of its card."""
    facts = read_index()[name]
    metrics = cast(Mapping[str, object], facts["metrics"])
    recipe = read_recipe(name)
    about = {
        "variant": facts["variant"],
        **{key: metrics.get(key) for key in ("data", "split", "examples", "binarization")},
        "measure": measure_of(metrics),
        "command": MeasurementSettings.of(metrics).command(name, recipe.data.name),
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
        "weights_digest": metrics.get("weights"),
        **{f"training_{key}": value for key, value in training_facts(metrics).items()},
        "initialized_from": recipe.init,
    }
    for key, metric in all_metrics().items():
        value = metrics.get(key)
        estimate = value if isinstance(value, Mapping) else {"mean": value}
        if estimate.get("mean") is not None:
            row = {
                "model": name,
                "figure": key,
                "seed": recipe.seed,
                "value": estimate["mean"],
                "error": estimate.get("error"),
                "unit": metric.unit or None,
                "samples": metrics["samples"] if depends_on_samples(metric) else None,
                **literature_of(recipe, key),
                **about,
            }
            yield {name: each for name, each in row.items() if each is not None}


def measure_of(metrics: Mapping[str, object]) -> str | None:
    """Returns "mass" or "density", what the bound and the evidence are; None without a bound."""
    if not isinstance(bound := metrics.get("bound"), Mapping) or bound.get("mean") is None:
        return None
    return "mass" if is_mass(metrics) else "density"


def depends_on_samples(metric: Metric) -> bool:
    """Returns whether a figure depends on K, by its label."""
    return "{samples}" in metric.detail or metric.label.startswith("log-evidence")


def training_facts(metrics: Mapping[str, object]) -> Mapping[str, object]:
    """Returns steps, images, seconds and machine of the training, nothing where they are unknown."""
    return cast(Mapping[str, object], metrics.get("training") or {})


def literature_of(recipe: Recipe, figure: str) -> Record:
    """Returns the figure of the literature in a recipe with K and source, nothing if there is none."""
    found = recipe.published
    if not isinstance(found, Published) or figure not in found.metrics:
        return {}
    samples = {"published_samples": found.samples or None} if figure == "log_evidence" else {}
    return {"published": found.metrics[figure], **samples, "published_in": found.origin}


def training_seconds(name: str) -> float | None:
    """Returns the seconds of a pretrained model's training, with that of the model whose weights it starts from.

    None if one of them is unknown.
    """
    own = training_facts(cast(Mapping[str, object], read_index()[name]["metrics"])).get("seconds")
    start = read_recipe(name).init
    before = 0.0 if start is None else training_seconds(start) if start in read_index() else None
    return None if own is None or before is None else float(cast(float, own)) + before


def text() -> str:
    """Returns the leaderboard as JSON, one record on each line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in leaderboard())
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write_file(Path(argument), text().encode())
