"""`gallery`: pictures of pretrained models, and of all of them together."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vaezoo import pictures
from vaezoo.core import VAE, class_names
from vaezoo.data import Dataset
from vaezoo.errors import CompositionError, ConfigError, DataError, ShapeError, SupportError
from vaezoo.evaluation import representation
from vaezoo.evaluation.batches import context_of
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.pictures.plots import latent_map, named_points
from vaezoo.workflows.leaderboard import training_seconds
from vaezoo.workflows.load import load
from vaezoo.workflows.measure import data_of
from vaezoo.zoo.index import bundled_models, info

IMAGES, PAIRS, POINTS = 16, 6, 2_000  # in a row of reconstructions; of an interpolation; of a map
SHEET = 16  # samples of each model on the sheet of all
NOT_POSSIBLE = (CompositionError, ConfigError, DataError, ShapeError, SupportError)


def gallery(
    names: Sequence[str] = (), out: str | Path = "gallery", report: Callable[[str], None] | None = None
) -> Path:
    """Writes pictures of models into a folder, with an `index.md` that shows them.

    Of each model: reconstructions, samples, interpolations, a traversal and a map of its latents of test images. Of all
    together: rate against distortion, log-evidence against parameters and against training time, and samples. A picture
    that a model cannot have, such as a traversal of discrete codes, is a line with the reason. The test data are read
    from the cache, or downloaded.

    Args:
        names: names or folders of models; none means all that come with the package.
        out: the folder; `out/NAME/….png` for each model.
        report: called with the name of a model before its pictures.

    Returns:
        the path of `index.md`.

    Raises:
        UnknownNameError: no such model.
        DownloadError: the test data of a model are neither in the cache nor reachable.
        CheckpointError: a file cannot be written.
    """
    folder, chosen = Path(out), list(names) or bundled_models()
    lines, drawn = ["# Gallery", ""], dict[str, Tensor]()
    parts = []
    for name in chosen:
        if report is not None:
            report(name)
        model, label = load(name).eval(), Path(name).name
        parts += ["", f"## {label}", "", *pictures_of(model, label, folder / label)]
        if len(model.shape or ()) == 3:
            context = torch.arange(SHEET) % model.context if model.context else None
            drawn[label] = model.sample(SHEET, context, seed=0)
    lines += together(drawn, [name for name in chosen if name in set(bundled_models())], folder)
    index = folder / "index.md"
    index.parent.mkdir(parents=True, exist_ok=True)
    index.write_text("\n".join([*lines, *parts]) + "\n", encoding="utf-8")
    return index


def pictures_of(model: VAE, name: str, folder: Path) -> list[str]:
    """Writes the pictures of a model, and returns the lines of Markdown that show them or state why there are none."""
    data, _ = limited(test_set(model, data_of(model, None)), POINTS)
    x, c = first(data, context_of(model, data), IMAGES)
    pairs, contexts = x[: 2 * PAIRS].unflatten(0, (PAIRS, 2)), None if c is None else c[: 2 * PAIRS : 2]
    one = None if c is None else c[:1]
    classes = torch.arange(64) % model.context if model.context else None
    makers: dict[str, Callable[[Path], Path]] = {
        "reconstructions": lambda path: pictures.reconstructions(model, x, path, c),
        "samples": lambda path: pictures.samples(model, 64, path, classes),
        "interpolation": lambda path: pictures.interpolation(model, pairs, path, c=contexts),
        "traversal": lambda path: pictures.traversal(model, x[:1], path, c=one),
        "map": lambda path: map_of(model, data, path),
    }
    lines = []
    for what, make in makers.items():
        path = folder / f"{what}.png"
        try:
            make(path)
            lines += [f"![{what} of {name}]({folder.name}/{path.name})", ""]
        except NOT_POSSIBLE as error:
            lines += [f"No {what}: {error}", ""]
    return lines


def first(data: Dataset, context: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
    """Returns the first examples (B, *shape), and their contexts if the model is conditional."""
    indices = torch.arange(min(count, len(data)))
    return data.batch(indices), None if context is None else context[indices]


def map_of(model: VAE, data: Dataset, path: Path) -> Path:
    """Writes the map of the latents of a data set, in the colors of its classes."""
    return latent_map(representation(model, data), path, data.labels, class_names(model.config))


#: file of a picture -> title and axes; `points_of` has the points of each
PLANES: Mapping[str, Mapping[str, Any]] = {  # Any: arguments of `named_points`
    "rate-distortion": {
        "title": "Binarized MNIST, test images; lines of equal bound",
        "x": "rate, nats",
        "y": "distortion, nats",
        "sums": True,
    },
    "evidence-parameters": {
        "title": "Binarized MNIST, test images",
        "x": "parameters",
        "y": "log-evidence, nats",
        "logarithmic": True,
    },
    "evidence-training-time": {
        "title": "Binarized MNIST, test images",
        "x": "training time, minutes",
        "y": "log-evidence, nats",
        "logarithmic": True,
    },
}


def together(drawn: Mapping[str, Tensor], published: Sequence[str], folder: Path) -> list[str]:
    """Writes the pictures of all models, and returns the lines that show them."""
    lines = list[str]()
    if len(drawn) > 1:
        pictures.comparison(drawn, folder / "samples.png")
        lines += ["![Samples of all models](samples.png)", ""]
    chosen = [name for name in published if is_comparable(name)]
    for file, labels in PLANES.items():
        points = {name: found for name in chosen if (found := points_of(name).get(file)) is not None}
        if len(points) > 1:
            named_points(points, folder / f"{file}.png", **labels)
            shown = " and ".join(file.split("-", 1)).replace("-", " ").capitalize()
            lines += [f"![{shown}]({file}.png)", ""]
    return lines


def is_comparable(name: str) -> bool:
    """Returns whether a pretrained model states the probability of binarized MNIST, without a context."""
    facts = info(name)
    data, found = (cast(Mapping[str, object], facts[key]) for key in ("data", "metrics"))
    same = data["name"] == "mnist" and found.get("binarization") == "static"
    return same and not cast(Mapping[str, int], facts["architecture"])["context"]


def points_of(name: str) -> dict[str, tuple[float, float]]:
    """Returns the place of a pretrained model in each of `PLANES` for which its figures exist."""
    found, points = cast(Mapping[str, object], info(name)["metrics"]), dict[str, tuple[float, float]]()
    if mean_of(found, "bound") is not None:
        points["rate-distortion"] = (mean_of(found, "rate") or 0.0, mean_of(found, "distortion") or 0.0)
    if (evidence := mean_of(found, "log_evidence")) is not None:
        points["evidence-parameters"] = (float(cast(int, found["parameters"])), evidence)
        if (seconds := training_seconds(name)) is not None:
            points["evidence-training-time"] = (seconds / 60.0, evidence)
    return points


def mean_of(figures: Mapping[str, object], key: str) -> float | None:
    """Returns the mean of a stored figure, None if it is missing."""
    return cast(Mapping[str, float | None], figures.get(key) or {}).get("mean")
