"""Compares models of tables with imputers and an anomaly detector of scikit-learn, on its breast-cancer and wine data.

    python benchmarks/tables.py [--variants vae iwae] [--data breast-cancer wine] [--seeds 5] [--steps 1500]
        [--removed 0.2] [--samples 200]

For each seed 30 % of the rows are held out, and 20 % of all entries are removed at random, in training rows too. The
class is a column of its own, a flag or a category. Printed are means over the seeds and their standard deviations:

- the held-out bound on the observed entries, nats per row: its rate, and the distortion of each kind of column;
- the root mean square error of removed numbers, in training standard deviations, and the accuracy of removed classes,
  beside imputation by mean and mode, by k nearest neighbors, and by iterated regressions, all fitted on the same rows
  (they take standardized numbers, and one-hot classes without the last one, which would make regressions singular);
- the area under the ROC curve of minus the evidence of complete held-out rows, for a model of rows of the usual classes
  alone (benign; the first two wines), beside an isolation forest.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (its import makes the next one possible)
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.metrics import roc_auc_score
from torch import Tensor

import vaezoo
from vaezoo.core import VAE
from vaezoo.data import Dataset, TableLayout, table

SETS = {"breast-cancer": (load_breast_cancer, 0), "wine": (load_wine, 2)}  # with the class that is unusual
CLASS = "class"
Figures = dict[tuple[str, str], list[float]]


@dataclass(frozen=True)
class Split:
    """Complete rows of a table, their classes, and which of them are for training."""

    columns: dict[str, list[object]]
    classes: np.ndarray
    training: np.ndarray
    test: np.ndarray

    def rows(self, places: np.ndarray, gaps: np.ndarray | None = None, classes: bool = True) -> dict[str, list[object]]:
        """Returns rows as columns, None where `gaps` (N, columns) is set."""
        chosen = list(self.columns.items())[: None if classes else -1]
        return {
            name: [None if gaps is not None and gaps[row, number] else values[row] for row in places]
            for number, (name, values) in enumerate(chosen)
        }


def split_of(name: str, seed: int) -> Split:
    """Returns a data set with 30 % of its rows for testing."""
    found = SETS[name][0]()
    columns = {str(key): values.tolist() for key, values in zip(found.feature_names, found.data.T, strict=True)}
    words = [str(found.target_names[number]) for number in found.target]
    order = np.random.default_rng(seed).permutation(len(words))
    held = int(0.3 * len(words))
    return Split({**columns, CLASS: words}, found.target, order[held:], order[:held])  # type: ignore[dict-item]


def trained(variant: str, data: Dataset, steps: int, seed: int) -> VAE:
    """Returns a model of a table."""
    recipe = {
        "variant": variant,
        "seed": seed,
        "architecture": {"latent": 8, "likelihood": "mixed", "backbone": {"name": "mlp", "hidden": [64, 64]}},
        "data": {"name": "table", "validation": len(data) // 5},  # which chooses the weights
        "train": {"steps": steps, "batch_size": 64, "learning_rate": 2e-3},
    }
    return vaezoo.train(recipe, data=data, out=None, trackers=()).model


@torch.no_grad()
def terms(model: VAE, x: Tensor, layout: TableLayout) -> Iterator[tuple[str, float]]:
    """Yields the mean rate, the mean distortion of each kind of column, and the bound, nats per row."""
    torch.manual_seed(0)
    x, _ = model.check(x)
    inference = model.infer(x, None, 20)
    rate, total = float(inference.rate().mean()), 0.0
    for kind in dict.fromkeys(column.kind for column in layout.columns):
        alone = torch.full_like(x, torch.nan)
        for column in layout.columns:
            if column.kind == kind:
                place = layout.places()[column.name]
                alone[:, place] = x[:, place]
        distortion = -float(inference.likelihood.log_prob(alone).mean())
        total += distortion
        yield f"distortion of {kind} columns", distortion
    yield "rate", rate
    yield "bound", -total - rate


def standardized(columns: dict[str, list[object]], mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Returns numbers (N, D) in training standard deviations, NaN for gaps."""
    numbers = [values for name, values in columns.items() if name != CLASS]
    return (np.array(numbers, dtype=np.float64).T - mean) / deviation


def one_hot(values: list[object], words: list[str]) -> np.ndarray:
    """Returns classes as (N, V - 1), the last one as zeros, NaN for gaps."""
    words = words[:-1]
    return np.array(
        [[np.nan] * len(words) if each is None else [float(each == word) for word in words] for each in values]
    )


def imputations(split: Split, options: argparse.Namespace, seed: int, found: Figures) -> None:
    """Adds the errors of all imputers, and the terms of the models, to `found`."""
    gaps = np.random.default_rng(seed + 1_000).random((len(split.classes), len(split.columns))) < options.removed
    given, rows, truth = (split.rows(split.training, gaps), split.rows(split.test, gaps), split.rows(split.test))
    training = table(given)
    layout = training.layout
    assert layout is not None
    raw = standardized(given, np.zeros(len(given) - 1), np.ones(len(given) - 1))
    mean, deviation = np.nanmean(raw, 0), np.nanstd(raw, 0)
    words = sorted(set(map(str, split.columns[CLASS])))
    wanted, removed = standardized(truth, mean, deviation), gaps[split.test]

    def add(name: str, numbers: np.ndarray, classes: list[object]) -> None:
        errors = (numbers - wanted)[removed[:, :-1]]
        hits = [a == b for a, b, gap in zip(classes, truth[CLASS], removed[:, -1], strict=True) if gap]
        found[name, "RMSE"].append(float(np.sqrt((errors**2).mean())))
        found[name, "accuracy"].append(float(np.mean(hits)))

    for variant in options.variants:
        model = trained(variant, training, options.steps, seed)
        filled = vaezoo.impute(model, rows, samples=options.samples, seed=seed)
        add(variant, standardized(filled, mean, deviation), filled[CLASS])
        for term, value in terms(model, layout.tensor(rows), layout):
            found[variant, term].append(value)
    both = [
        np.concatenate([standardized(each, mean, deviation), one_hot(each[CLASS], words)], 1) for each in (given, rows)
    ]
    for name, imputer in {
        "mean and mode": SimpleImputer(),
        "k-NN (5)": KNNImputer(n_neighbors=5),
        "iterated regressions": IterativeImputer(max_iter=10, random_state=seed),
    }.items():
        values = imputer.fit(both[0]).transform(both[1])
        count = values.shape[1] - len(words) + 1
        shares = np.concatenate([values[:, count:], 1.0 - values[:, count:].sum(1, keepdims=True)], 1)
        add(name, values[:, :count], [words[place] for place in shares.argmax(1)])


def anomalies(name: str, split: Split, options: argparse.Namespace, seed: int, found: Figures) -> None:
    """Adds the areas under the ROC curves to `found`."""
    strange = split.classes == SETS[name][1]
    usual = split.training[~strange[split.training]]
    given, rows = split.rows(usual, classes=False), split.rows(split.test, classes=False)
    training = table(given)
    assert training.layout is not None
    for variant in options.variants:
        model = trained(variant, training, options.steps, seed)
        scores = -model.log_evidence(training.layout.tensor(rows), samples=options.samples, seed=seed)
        found[variant, "AUROC"].append(float(roc_auc_score(strange[split.test], scores)))
    numbers = [np.array(list(each.values()), dtype=np.float64).T for each in (given, rows)]
    forest = IsolationForest(random_state=seed).fit(numbers[0])
    found["isolation forest", "AUROC"].append(
        float(roc_auc_score(strange[split.test], -forest.score_samples(numbers[1])))
    )


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=["vae", "iwae"])
    parser.add_argument("--data", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--removed", type=float, default=0.2)
    parser.add_argument("--samples", type=int, default=200)
    options = parser.parse_args()
    for name in options.data:
        found: Figures = defaultdict(list)
        for seed in range(options.seeds):
            split = split_of(name, seed)
            imputations(split, options, seed, found)
            anomalies(name, split, options, seed, found)
        print(f"\n{name}, {options.seeds} seeds\n\n| method | figure | mean | deviation |\n| --- | --- | --- | --- |")
        for (method, figure), values in found.items():
            print(f"| {method} | {figure} | {np.mean(values):.3f} | {np.std(values):.3f} |", flush=True)


if __name__ == "__main__":
    main()
