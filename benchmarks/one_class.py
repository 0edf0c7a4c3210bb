"""Finds images of the other classes with models that were trained on one class alone.

    python benchmarks/one_class.py [--rows vae-binary vae-gray] [--data mnist fashion-mnist] [--steps 1500]
        [--results one-class.jsonl]

A model is trained on the training images of each class. Usual are the test images of this class, unusual all others.
Prints the area under the ROC curve of each score, mean and spread over the ten classes. A finished run is a line of the
results file and is not trained again.
"""

import argparse
from pathlib import Path

from series import completed, table

import vaezoo
from vaezoo.data import Dataset, load_dataset
from vaezoo.evaluation import anomaly_scores, detection
from vaezoo.evaluation.anomaly import Score

ROWS: dict[str, tuple[str, dict[str, object], str]] = {
    "vae-binary": ("vae", {"name": "bernoulli"}, "dynamic"),
    "vae-gray": ("sigma-vae", {"name": "gaussian", "scale_kind": "optimal"}, "none"),
}
"""Variant, likelihood and binarization of each row."""
SCORES: tuple[Score, ...] = ("bound", "distortion", "rate")
FIGURES = {score: (f"AUROC of the {score}, %", 1) for score in SCORES}
CLASSES = 10
DRAWS = 5


def recipe_of(row: str, data: str, steps: int) -> dict[str, object]:
    """Returns the recipe of the runs of a row."""
    variant, likelihood, binarize = ROWS[row]
    return {
        "variant": variant,
        "architecture": {
            "latent": 16,
            "backbone": {"name": "conv", "channels": [16, 32], "dense": [128], "activation": "relu"},
            "likelihood": likelihood,
        },
        "data": {"name": data, "binarize": binarize},
        "train": {"steps": steps, "batch_size": 64, "schedule": "cosine", "final_learning_rate": 1e-5},
    }


def of_class(data: Dataset, label: int, *, among: bool) -> Dataset:
    """Returns the examples of a class, or all others."""
    assert data.labels is not None
    return data.subset((data.labels == label) == among)


def run(row: str, label: int, steps: int) -> dict[str, object]:
    """Trains on one class and measures; `row` is the name of a data set and that of one of `ROWS`."""
    name, kind = row.split(" ")
    train, test = load_dataset(name), load_dataset(name, "test")
    recipe = recipe_of(kind, name, steps)
    model = vaezoo.train(recipe, data=of_class(train, label, among=True), out=None, trackers=()).model
    found: dict[str, object] = {}
    for score in SCORES:
        usual, unusual = (
            anomaly_scores(model, of_class(test, label, among=among), score, samples=DRAWS) for among in (True, False)
        )
        found[score] = 100.0 * detection(usual, unusual).auroc
    return found


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion-mnist"])
    parser.add_argument("--steps", type=int, default=1_500)
    parser.add_argument("--results", type=Path, default=Path("one-class.jsonl"))
    given = parser.parse_args()
    wanted = [(f"{data} {row}", label) for data in given.data for row in given.rows for label in range(CLASSES)]
    lines = completed(given.results, wanted, {"steps": given.steps}, lambda row, label: run(row, label, given.steps))
    print(table(lines, FIGURES).replace("| seeds |", "| classes |", 1))


if __name__ == "__main__":
    main()
