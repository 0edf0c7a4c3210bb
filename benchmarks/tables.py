"""Compares models of tables with imputers and an anomaly detector of scikit-learn, on three tables.

    python benchmarks/tables.py [--data breast-cancer wine customers] [--variants vae iwae] [--seeds 5] [--steps 600]
        [--removed 0.2] [--samples 200] [--rows 50000] [--neighbors 3000]

`breast-cancer` and `wine` are those of scikit-learn, with the class as a column; `customers` is drawn by `customers()`
below, with columns of all kinds. The kinds of columns are found once for each table. For each seed other rows are held
out (30 %, of `customers` 1,000 rows), and 20 % of all entries are removed at random, in training rows too. A fifth of
the training rows, at most 1,000, choose the weights of a model. `iwae` has K = 10. Printed are means over the seeds and
their standard deviations:

- the held-out bound on the observed entries that the model itself reports, nats per row, and its parts: the distortion
  of each kind of column and the rate. Those of `iwae` are the parts of its own bound, see `parts_of`;
- for each kind of column the root mean square error of removed numbers, in training standard deviations, and the
  accuracy of removed flags and categories, beside imputation by mean, by k nearest neighbors and by iterated
  regressions. All fill the same rows, and are fitted on the same training rows, except that the neighbors of
  `customers` are among the first 3,000 of them, and the regressions are fitted on the first 10,000. The imputers take x
  as the models do, but numbers in standard deviations and categories without their last element, which would make
  regressions singular; their results are brought to the nearest values of x in the same way;
- the area under the ROC curve of minus the evidence of complete held-out rows, without the column of the class, for a
  model of rows of the usual classes alone, beside an isolation forest.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import IsolationForest
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (its import makes the next one possible)
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.metrics import roc_auc_score
from torch import Tensor

import vaezoo
from vaezoo.core import VAE, as_part, seeded
from vaezoo.data import Dataset, TableLayout, table
from vaezoo.objectives import ImportanceObjective

CLASS = "class"
LARGE = 10_000  # rows of a table of which `HELD` rows are held out, and which slow imputers take in part
HELD = 1_000
OPTIONS = {"iwae": {"samples": 10}}
Columns = dict[str, list[object]]
Figures = dict[tuple[str, str], list[float]]


@dataclass(frozen=True)
class Source:
    """A table with the column `CLASS` as its last one, and its unusual class."""

    columns: Columns
    unusual: str

    def __len__(self) -> int:
        return len(self.columns[CLASS])

    def kinds(self) -> dict[str, str]:
        """Returns the kind of each column, found from all rows."""
        layout = table(self.columns).layout
        assert layout is not None
        return {each.name: each.kind for each in layout.columns}

    def rows(self, places: np.ndarray, gaps: np.ndarray | None = None, classes: bool = True) -> Columns:
        """Returns rows as columns, None where `gaps` (N, columns) is set."""
        chosen = list(self.columns.items())[: None if classes else -1]
        return {
            name: [None if gaps is not None and gaps[row, number] else values[row] for row in places.tolist()]
            for number, (name, values) in enumerate(chosen)
        }


def of_scikit_learn(load: Callable[[], object], unusual: str) -> Source:
    """Returns a data set of scikit-learn."""
    found = load()
    columns = {str(key): values.tolist() for key, values in zip(found.feature_names, found.data.T, strict=True)}  # type: ignore[attr-defined]
    words = [str(found.target_names[number]) for number in found.target]  # type: ignore[attr-defined]
    return Source({**columns, CLASS: words}, unusual)


def customers(rows: int = 50_000, seed: int = 0) -> Source:
    """Returns rows from two factors a and b, standard normal, with columns of all kinds.

    A tenth of the rows are resellers, for which a has the opposite sign in `spent` and `orders`.
    """
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(2, rows))
    groups = draw.choice(3, rows, p=[0.45, 0.45, 0.1])
    noise = draw.normal(size=(5, rows))
    sign = np.where(groups == 2, -1.0, 1.0) * a
    regions = np.stack([a, b, -a, -b]) * 1.5 + draw.gumbel(size=(4, rows))
    spent = np.exp(3.0 + 0.8 * sign + 0.5 * b + 0.4 * noise[1])
    days = np.rint(1500 + 400 * b + 150 * noise[3]).astype(int)
    columns: Columns = {
        "age": (45.0 + 12.0 * a + 4.0 * noise[0]).tolist(),
        "spent": spent.tolist(),
        "orders": draw.poisson(np.exp(0.7 + 0.5 * b + 0.4 * sign)).tolist(),
        "balance": np.rint(100.0 * b - 60.0 * a + 40.0 * noise[2]).astype(int).tolist(),
        "distance": (np.sin(1.5 * a) + 0.5 * b**2 + 0.2 * noise[4]).tolist(),
        "newsletter": [("no", "yes")[int(each)] for each in draw.random(rows) < 1.0 / (1.0 + np.exp(1.0 - 2.0 * a))],
        "region": [("north", "east", "south", "west")[place] for place in regions.argmax(0)],
        "joined": [date(2015, 1, 1) + timedelta(days=each) for each in days.tolist()],
        CLASS: [("new", "regular", "reseller")[place] for place in groups],
    }
    return Source(columns, "reseller")


def source_of(name: str, rows: int) -> Source:
    """Returns a table by its name."""
    if name == "customers":
        return customers(rows)
    return of_scikit_learn(*{"breast-cancer": (load_breast_cancer, "malignant"), "wine": (load_wine, "class_2")}[name])


def split_of(source: Source, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places of training rows and of held-out rows."""
    order = np.random.default_rng(seed).permutation(len(source))
    held = HELD if len(source) > LARGE else int(0.3 * len(source))
    return order[held:], order[:held]


def trained(variant: str, data: Dataset, steps: int, seed: int) -> VAE:
    """Returns a model of a table, of the step with the best bound on held-out training rows."""
    recipe = {
        "variant": variant,
        "seed": seed,
        "options": OPTIONS.get(variant, {}),
        "architecture": {"latent": 8, "likelihood": "mixed", "backbone": {"name": "mlp", "hidden": [64, 64]}},
        "data": {"name": "table", "validation": min(len(data) // 5, HELD)},
        "train": {"steps": steps, "batch_size": 64, "learning_rate": 2e-3},
    }
    return vaezoo.train(recipe, data=data, out=None, trackers=()).model


@torch.no_grad()
def parts_of(model: VAE, x: Tensor, layout: TableLayout, draws: int = 20) -> Iterator[tuple[str, float]]:
    r"""Yields the distortion of each kind of column, the rate, and the bound that the model reports, nats per row.

    With the log weights $\log w_k = \sum_j \log p(x_j|z_k) + \log p(z_k) - \log q(z_k|x)$ and $s_k = w_k / \sum_l w_l$,
    the importance-weighted bound is $\log \frac1K \sum_k w_k = \sum_k s_k (\log w_k - \log K s_k)$: the distortion of
    the columns j is $-\sum_k s_k \sum_j \log p(x_j|z_k)$, and the rate is minus the rest. Other bounds have equal
    shares $s_k = 1/K$.
    """
    x, _ = model.check(x)
    objective = model.objective
    weighted = isinstance(objective, ImportanceObjective)
    samples = objective.samples if isinstance(objective, ImportanceObjective) else 1
    alone = {kind: only(x, layout, kind) for kind in dict.fromkeys(each.kind for each in layout.columns)}
    found = defaultdict[str, float](float)
    for seed in range(draws):
        with seeded(seed):
            found["bound"] += float(model(x).bound.mean()) / draws
        with seeded(seed):  # for the same z
            inference = model.infer(x, None, samples)
        log_weights = inference.log_weights()
        shares = log_weights.softmax(0) if weighted else torch.full_like(log_weights, 1.0 / samples)
        for kind, values in alone.items():
            log_likelihood = inference.likelihood.log_prob(values)
            found[f"distortion of {kind} columns"] -= float((shares * log_likelihood).sum(0).mean()) / draws
    yield from ((name, value) for name, value in found.items() if name != "bound")
    yield "rate", -sum(found.values())  # of the bound and all distortions
    yield "bound", found["bound"]


def only(x: Tensor, layout: TableLayout, kind: str) -> Tensor:
    """Returns x (N, width) with NaN in all columns but those of one kind."""
    kept = mask_of(layout, kind)
    return torch.where(kept, x, torch.nan)


def mask_of(layout: TableLayout, *kinds: str) -> Tensor:
    """Returns which elements of x, (width,), are those of columns of some kinds."""
    return torch.tensor([each.kind in kinds for each in layout.columns for _ in range(each.width)])


def for_imputers(x: Tensor, layout: TableLayout, scale: Tensor) -> np.ndarray:
    """Returns x (N, width) in units of `scale`, without the last element of each category."""
    last = torch.tensor(
        [each.kind == "category" and place == each.width - 1 for each in layout.columns for place in range(each.width)]
    )
    return (x / scale)[:, ~last].numpy()


def of_imputers(values: np.ndarray, layout: TableLayout, scale: Tensor) -> Tensor:
    """Returns what `for_imputers` was made of: a last element is 1 minus the others of its category."""
    parts, start = [], 0
    for each in layout.columns:
        width = each.width - (each.kind == "category")
        part = values[:, start : start + width]
        parts.append(np.concatenate([part, 1.0 - part.sum(1, keepdims=True)], 1) if width < each.width else part)
        start += width
    return torch.from_numpy(np.concatenate(parts, 1)) * scale


class Errors:
    """The errors of imputed values of one split, added to `found`."""

    def __init__(self, layout: TableLayout, truth: Tensor, given: Tensor, scale: Tensor, found: Figures) -> None:
        self.layout, self.truth, self.scale, self.found = layout, truth, scale, found
        self.removed = given.isnan()

    def add(self, name: str, filled: Tensor) -> None:
        """Adds the figures of x without gaps, (N, width)."""
        squares = ((filled - self.truth) / self.scale).square()
        for kind in dict.fromkeys(each.kind for each in self.layout.columns):
            places = self.layout.places()
            own = [places[each.name] for each in self.layout.columns if each.kind == kind]
            if kind in ("flag", "category"):
                gaps = [self.removed[:, each][:, 0] for each in own]
                hits = [(filled[:, each] == self.truth[:, each]).all(1) for each in own]
                right = torch.cat([hit[gap] for hit, gap in zip(hits, gaps, strict=True)])
                self.found[name, f"accuracy of {kind} columns"].append(float(right.double().mean()))
            else:
                chosen = self.removed & mask_of(self.layout, kind)
                self.found[name, f"RMSE of {kind} columns"].append(float(squares[chosen].mean().sqrt()))
        numbers = self.removed & ~mask_of(self.layout, "flag", "category")
        self.found[name, "RMSE"].append(float(squares[numbers].mean().sqrt()))


def imputations(source: Source, kinds: dict[str, str], options: argparse.Namespace, seed: int, found: Figures) -> None:
    """Adds the errors of all imputers, and the parts of the models' bounds, to `found`."""
    training, test = split_of(source, seed)
    gaps = np.random.default_rng(seed + 1_000).random((len(source), len(source.columns))) < options.removed
    data = table(source.rows(training, gaps), kinds=kinds)
    layout = data.layout
    assert layout is not None
    x, truth = (layout.tensor(source.rows(test, each)).double() for each in (gaps, None))
    known = data.images.double()
    numbers = ~mask_of(layout, "flag", "category")
    scale = torch.where(numbers, torch.from_numpy(np.nanstd(known.numpy(), 0)), 1.0)
    errors = Errors(layout, truth, x, scale, found)
    for variant in options.variants:
        model = trained(variant, data, options.steps, seed)
        for name, value in parts_of(model, x.float(), layout):
            found[variant, name].append(value)
        errors.add(variant, vaezoo.impute(model, x, samples=options.samples, seed=seed))
    likelihood = as_part(model.decoder).likelihood
    assert likelihood is not None
    rows = for_imputers(known, layout, scale)
    for name, imputer, fitted in (
        ("mean", SimpleImputer(), rows),
        ("k-NN (5)", KNNImputer(n_neighbors=5), rows[: options.neighbors]),
        ("iterated regressions", IterativeImputer(max_iter=10, random_state=seed), rows[:LARGE]),
    ):
        values = imputer.fit(fitted).transform(for_imputers(x, layout, scale))
        errors.add(name, likelihood.point(of_imputers(values, layout, scale)))


def anomalies(source: Source, kinds: dict[str, str], options: argparse.Namespace, seed: int, found: Figures) -> None:
    """Adds the areas under the ROC curves to `found`."""
    training, test = split_of(source, seed)
    strange = np.array(source.columns[CLASS]) == source.unusual
    given, rows = (source.rows(each, classes=False) for each in (training[~strange[training]], test))
    data = table(given, kinds={name: kind for name, kind in kinds.items() if name != CLASS})
    assert data.layout is not None
    x = data.layout.tensor(rows)
    for variant in options.variants:
        model = trained(variant, data, options.steps, seed)
        scores = -model.log_evidence(x, samples=options.samples, seed=seed)
        found[variant, "AUROC"].append(float(roc_auc_score(strange[test], scores)))
    forest = IsolationForest(random_state=seed).fit(data.images.numpy())
    found["isolation forest", "AUROC"].append(float(roc_auc_score(strange[test], -forest.score_samples(x.numpy()))))


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["breast-cancer", "wine", "customers"])
    parser.add_argument("--variants", nargs="+", default=["vae", "iwae"])
    for name, value in {"seeds": 5, "steps": 600, "samples": 200, "rows": 50_000, "neighbors": 3_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--removed", type=float, default=0.2)
    options = parser.parse_args()
    for name in options.data:
        found: Figures = defaultdict(list)
        source = source_of(name, options.rows)
        kinds = source.kinds()
        for seed in range(options.seeds):
            imputations(source, kinds, options, seed, found)
            anomalies(source, kinds, options, seed, found)
        print(f"\n{name}, {options.seeds} seeds\n\n{kinds}\n")
        print("| method | figure | mean | deviation |\n| --- | --- | --- | --- |")
        for (method, figure), values in found.items():
            print(f"| {method} | {figure} | {np.mean(values):.3f} | {np.std(values, ddof=1):.3f} |", flush=True)


if __name__ == "__main__":
    main()
