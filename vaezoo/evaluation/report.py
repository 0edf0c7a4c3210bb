"""`evaluate`: all registered metrics of a model on a test set."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, cast

import torch
from torch import Tensor

from vaezoo.core import VAE, evaluating, public_name, weights_digest, whole_number, whole_seed
from vaezoo.data import TEST_SEED, Dataset
from vaezoo.errors import ShapeError
from vaezoo.evaluation.health import findings
from vaezoo.evaluation.metric import Estimate, Measurement, Value, all_metrics, titled
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.evaluation.validity import measure_of, missing

HELD_OUT = ("test", "validation")  # splits that are binarized with `TEST_SEED`


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """Metrics of a model on a data set. Each metric in `values` is also an attribute, such as `report.log_evidence`.

    Means over examples are `Estimate`s in nats, with standard errors. `bound` and `log_evidence` are None if x has no
    density under the likelihood; the distortion is then a loss. `psnr` is in dB; `active_units` counts latents,
    `perplexity` codes. `label_error` exists only for models that classify, `clustering_accuracy` only for models with
    clusters; their attributes are None for others. `subset_seed` is None for a whole test set, else the seed of the
    permutation that chose the examples. `measure` is "mass" or "density", what the likelihood gives, or
    "loss" for data to which it gives neither; figures of different measures do not compare. `reason` is a sentence that
    states why a bound or an evidence is missing, or an empty string.
    `weights` is the SHA-256 of the measured model's saved tensors. Metrics that only `thorough` measures are None
    without it.
    """

    data: str
    split: str
    binarization: str
    binarization_seed: int | None
    examples: int
    samples: int
    seed: int
    latents: int
    values: dict[str, Value]
    subset_seed: int | None = None
    measure: str = ""
    reason: str = ""
    weights: str | None = None

    def __getattr__(self, name: str) -> Any:  # Any: each metric has its own type
        """Returns the value of a metric."""
        if name == "values" or name not in self.values:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.values[name]

    @property
    def _head(self) -> str:
        """Data, number of examples, K and seeds in one line."""
        chosen = "" if self.subset_seed is None else f", chosen with seed {self.subset_seed}"
        binary = f", binarized with seed {self.binarization_seed}" if self.binarization_seed else ""
        return f"{self.examples:,} {self.split} examples of {self.data}{chosen}{binary}, seed {self.seed}"

    @property
    def health(self) -> list[str]:
        """Sentences on what is wrong with the model or the figures, each with what to try next; see `findings`."""
        return findings(self.as_dict())

    @property
    def _notes(self) -> list[str]:
        return [*([self.reason] if self.reason else []), *self.health]

    def __repr__(self) -> str:
        """Returns a line for the data and one for each metric."""
        lines = [f"Report: {self._head}", *(f"  {name}: {text}" for name, text in titled(self.as_dict()))]
        return "\n".join([*lines, *(f"  {each}" for each in self._notes)])

    def _repr_html_(self) -> str:
        """Returns the metrics as an HTML table, for notebooks."""
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in titled(self.as_dict())
        )
        notes = "".join(f"<p>{escape(text)}</p>" for text in [self._head, *self._notes])
        return f"<table>{rows}</table>{notes}"

    def as_dict(self) -> dict[str, object]:
        """Returns plain values, as `metrics.json` stores them; metrics that do not apply are left out."""
        facts = asdict(self)
        values = cast(dict[str, object], facts.pop("values"))
        optional = {"subset_seed": None, "measure": "", "reason": ""}
        facts = {key: value for key, value in facts.items() if key not in optional or value != optional[key]}
        facts["data"] = public_name(self.data)
        known = all_metrics()
        always = {key for key in values if key in known and known[key].always}
        values = {key: list(each) if isinstance(each, tuple) else each for key, each in values.items()}
        return facts | {key: value for key, value in values.items() if value is not None or key in always}


def evaluate(
    model: VAE,
    data: object,
    samples: int = 5000,
    *,
    split: str = "test",
    binarize: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
    batch_size: int | None = None,
    thorough: bool = False,
) -> Report:
    """Measures all registered metrics of a model on a test set, in eval mode.

    The log-evidence dominates the cost: the decoder runs on `samples` × examples latents. With the default K = 5000,
    10,000 images take minutes for a small perceptron and hours for a convolutional model on a CPU. `samples=500` or
    `limit=1000` gives a first impression; log-evidences compare only at equal K.

    Args:
        model: the model; its mode is restored afterwards.
        data: a name such as "mnist", or anything else that `vaezoo.data.as_dataset` takes.
        samples: K of the importance-weighted evidence; 0 leaves it out.
        split: split of a named data set.
        binarize: see `test_set`.
        limit: use at most so many examples, chosen with the seed `Report.subset_seed`.
        seed: seed of all noise.
        report: called with (draws done, all draws), which are examples × K, or the examples for K = 0.
        batch_size: number of examples at a time, on which the noise depends; None for 500 (100 for the evidence), or
            fewer where examples are large. Lower it if memory runs out.
        thorough: also measure the metrics that take longer, on at most 4,000 examples: the terms of the rate, precision
            and recall of samples, classifiers of the latents, path length, and an interval of the evidence.

    Raises:
        DataError, ShapeError, SupportError, ContextError, ConfigError: the data or an argument does not fit the model.
    """
    samples, seed = whole_number(samples, "samples", 0), whole_seed(seed)
    batch_size = None if batch_size is None else whole_number(batch_size, "batch_size", 1)
    chosen, subset_seed = limited(test_set(model, data, split=split, binarize=binarize), limit)
    return measured(
        model,
        chosen,
        samples,
        seed=seed,
        subset_seed=subset_seed,
        report=report,
        batch_size=batch_size,
        thorough=thorough,
    )[0]


def measured(
    model: VAE,
    chosen: Dataset,
    samples: int,
    *,
    seed: int = 0,
    subset_seed: int | None = None,
    report: Callable[[int, int], None] | None = None,
    batch_size: int | None = None,
    thorough: bool = False,
) -> tuple[Report, Tensor | None]:
    """Returns the report on a result of `test_set`, and the log-evidence of each example, (N,), nats, or None.

    `subset_seed` is that of `limited`; `thorough` as in `evaluate`.
    """
    measurement = Measurement(
        model=model, data=chosen, samples=samples, seed=seed, report=report, batch_size=batch_size
    )
    with evaluating(model):
        values = {
            key: metric.compute(measurement) if thorough or not metric.costly else None
            for key, metric in all_metrics().items()
        }
        evidences = measurement.evidences
        measure, reason = measure_of(measurement), missing(measurement)
    found = Report(
        data=chosen.name,
        split=chosen.split,
        binarization=chosen.binarization,
        binarization_seed=TEST_SEED if chosen.binarization == "static" and chosen.split in HELD_OUT else None,
        examples=len(chosen),
        samples=samples if evidences is not None else 0,
        seed=seed,
        latents=math.prod(model.latent or (0,)),
        values=values,
        subset_seed=subset_seed,
        measure=measure,
        reason=reason,
        weights=weights_digest(model),
    )
    return found, evidences


def paired_difference(first: Tensor, second: Tensor) -> Estimate:
    """Returns the mean of `first` - `second` with the standard error of that mean over examples.

    Some images are harder than others for every model. This cancels in the difference on the same images, so that its
    standard error is far below those of the two means.

    Args:
        first: values of each example under one model, such as `evidence(model, data)`, (N,).
        second: those of the same examples, in the same order, under another model.

    Raises:
        ShapeError: the shapes differ or are empty.
    """
    first, second = torch.as_tensor(first), torch.as_tensor(second)
    if first.dim() != 1 or first.shape != second.shape or not len(first):
        raise ShapeError(
            f"Got figures of shapes {tuple(first.shape)} and {tuple(second.shape)}; expected (N,) of the same examples."
        )
    return Estimate.of(first.double().cpu() - second.double().cpu())
