"""`Metric`, its registry and its input, `Measurement`. Imports no torch: tables of stored metrics need none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from string import Formatter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from vaezoo.evaluation.means import Estimate as Estimate  # also a public name of `evaluation`
from vaezoo.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from vaezoo.core import ELBO, VAE
    from vaezoo.data import Dataset
    from vaezoo.evaluation.decomposition import RateDecomposition
    from vaezoo.evaluation.manifolds import Neighborhoods
    from vaezoo.evaluation.probes import ProbeAccuracy


class Terms(NamedTuple):
    """Bound, distortion and rate (nats) of each example, and measures of its reconstruction, (N,) each.

    `dense` is 1 for examples to which the likelihood gives a probability or a density, otherwise 0. `similarity` (SSIM)
    and `perceptual` (perceptual distance) are NaN for examples to which they do not apply. `observed` is the number of
    elements that are no gaps, over which `squared_error` is the mean.
    """

    bound: Tensor
    distortion: Tensor
    rate: Tensor
    squared_error: Tensor
    dense: Tensor
    similarity: Tensor
    perceptual: Tensor
    observed: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """A model, in eval mode, on a data set. Tensors are computed on first use and shared by all metrics.

    Args:
        model: the model.
        data: the examples, as `test_set` returns them.
        samples: K of the importance-weighted evidence; 0 for none.
        seed: seed of all noise.
        batch_size: number of examples at a time; None for 500, or fewer where examples are large.
        report: called with (draws done, all draws), which are examples × K, or the examples for K = 0.
    """

    model: VAE
    data: Dataset
    samples: int
    seed: int = 0
    batch_size: int | None = None
    report: Callable[[int, int], None] | None = None

    @property
    def of_images(self) -> bool:
        """Whether x are images, (H, W) or (C, H, W), and no rows of a table or series."""
        return len(self.data.shape) > 1 and self.data.layout is None

    @cached_property
    def terms(self) -> Terms:
        """Terms of the ELBO, and reconstruction errors."""
        import torch

        from vaezoo.core import as_part, seeded
        from vaezoo.evaluation.batches import batches
        from vaezoo.evaluation.similarity import ImagePairs

        pairs = ImagePairs(self.data.shape, next(self.model.parameters()).device)
        likelihood = as_part(self.model.decoder).likelihood
        rows: list[Tensor] = []
        done = 0
        with seeded(self.seed):
            for x, c in batches(self.model, self.data, self.batch_size):
                elbo = cast("ELBO", self.model(x, c))
                made = self.model.reconstruct(x, c)
                known = ~x.isnan()  # NaN is a gap
                observed = known.flatten(1).sum(1).to(made)
                error = torch.where(known, made - x, 0.0).square().flatten(1).sum(1) / observed.clamp(min=1.0)
                dense = torch.ones_like(error) if likelihood is None else likelihood.contains(x).to(error)
                found = (elbo.bound, elbo.distortion, elbo.rate, error, dense, *pairs(x, made), observed)
                rows.append(torch.stack([each.to(error.dtype) for each in found]).cpu())
                if self.report is not None:  # before the first draw of an evidence
                    done += len(x)
                    self.report(0 if self.samples else done, len(self.data) * (self.samples or 1))
        return Terms(*torch.cat(rows, 1))

    @cached_property
    def _importance(self) -> tuple[Tensor, Tensor] | None:
        from vaezoo.evaluation.estimates import importance

        if self.samples == 0 or not bool(self.terms.bound.isfinite().all()):
            return None
        return importance(
            self.model, self.data, self.samples, seed=self.seed, report=self.report, batch_size=self.batch_size
        )

    @property
    def evidences(self) -> Tensor | None:
        """Importance-weighted evidences (N,), nats; None if x has no density under the likelihood or K = 0."""
        return None if self._importance is None else self._importance[0]

    @property
    def effective_sizes(self) -> Tensor | None:
        """Effective sample sizes of the weights of `evidences`, (N,), from 1 to K; None without evidences."""
        return None if self._importance is None else self._importance[1]

    @cached_property
    def encoded(self) -> tuple[Tensor | None, Tensor | None]:
        """Code indices (N, *grid), int64, or None; variances of the posterior means (D,), or None for codes."""
        from vaezoo.evaluation.latents import encoded

        return encoded(self.model, self.data, seed=self.seed, batch_size=self.batch_size)

    @cached_property
    def decomposition(self) -> RateDecomposition | None:
        """The terms of the rate against the aggregate posterior; None for other posteriors than diagonal normals."""
        from vaezoo.evaluation.decomposition import decomposition_of

        return decomposition_of(self.model, self.data, self.seed)

    @cached_property
    def neighborhoods(self) -> Neighborhoods | None:
        """Precision, recall, density and coverage of samples; None for data that are no images."""
        from vaezoo.evaluation.manifolds import neighborhoods_of

        return neighborhoods_of(self.model, self.data, self.seed)

    @cached_property
    def probes(self) -> ProbeAccuracy | None:
        """Accuracies of classifiers of the latents; None without labels, or for codes."""
        from vaezoo.evaluation.probes import probes_of

        return probes_of(self.model, self.data)


Value = Estimate | float | int | tuple[float, ...] | None
Measure = Literal["mass", "density", "loss"]


@dataclass(frozen=True)
class Metric:
    """A registered metric. Its key in `metrics.json` is the registry name with underscores.

    `functools.partial(Metric, label="PSNR", unit="dB")` is a decorator for `compute`.

    Args:
        compute: returns the value of a measurement; None if the metric does not apply to the model or the data.
        label: name in model cards.
        unit: unit; metrics with a unit are also listed in the metadata of cards on the Hub.
        detail: template for a detail of the label, filled in with the metrics of a model, such as "K = {samples}";
            left out where one of them is 0 or missing.
        digits: digits after the decimal point.
        percent: whether to show a share as percentage.
        order: position in cards and tables.
        always: whether to store a value of None, and to have a column for it in tables of pretrained models.
        column: heading in tables; None for the label, "" for no column.
        listed: whether the table of pretrained models has the column, too.
        several: whether its values are several numbers, a tuple.
        costly: whether it is measured only by `evaluate(…, thorough=True)`.
        cell: text in tables, from the metrics of a model; None formats the value.
    """

    compute: Callable[[Measurement], Value]
    _: KW_ONLY
    label: str
    unit: str = ""
    detail: str = ""
    digits: int = 2
    percent: bool = False
    order: int = 100
    always: bool = False
    column: str | None = None
    listed: bool = False
    several: bool = False
    costly: bool = False
    cell: Callable[[Mapping[str, object]], str] | None = None

    def title(self, values: Mapping[str, object], *, on_the_hub: bool = False) -> str:
        """Returns the label with detail and unit, such as "log-evidence (K = 5000), nats"."""
        names = [name for _, name, *_ in Formatter().parse(self.detail) if name]
        detail = self.detail.format_map(values) if all(values.get(name) for name in names) else ""
        if on_the_hub:
            return f"{self.label} ({', '.join(filter(None, (self.unit, detail)))})"
        return self.label + (f" ({detail})" if detail else "") + (f", {self.unit}" if self.unit else "")

    @property
    def heading(self) -> str:
        """Heading of the column in tables; "" if there is none."""
        return self.label if self.column is None else self.column

    def text(self, value: object) -> str:
        """Returns a value as text, with its standard error; a dash for None."""
        if self.percent and isinstance(value, int | float):
            small = -math.floor(math.log10(100 * value)) if value > 0 else 0  # digits to the first that is not 0
            return f"{100 * value:.{max(self.digits, min(small, 6))}f} %"
        return text_of(value, self.digits)

    def in_table(self, key: str, values: Mapping[str, object]) -> str:
        """Returns the cell of a table, from the metrics of a model."""
        return self.text(values.get(key)) if self.cell is None else self.cell(values)


metrics: Final[Registry[Metric]] = Registry(
    "metric", "vaezoo.metrics", "vaezoo.evaluation.metrics", accepts=lambda entry: isinstance(entry, Metric)
)


def all_metrics() -> dict[str, Metric]:
    """Returns the registered metrics by key, in display order; plug-ins that fail to load are skipped."""
    found = {name.replace("-", "_"): metric for name, metric in metrics.available()[0].items()}
    return dict(sorted(found.items(), key=lambda pair: pair[1].order))


def titled(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Returns title and text of each metric of a model, of those that apply; a missing bound or evidence is a dash."""
    return [
        (metric.title(values), metric.text(values.get(key)))
        for key, metric in all_metrics().items()
        if values.get(key) is not None
    ]


def text_of(value: object, digits: int = 2) -> str:
    """Returns a number, several, an estimate or its dict as text, with the standard error; a dash for None."""
    if isinstance(value, Estimate):
        value = {"mean": value.mean, "error": value.error}
    if isinstance(value, Mapping):
        error = value.get("error")
        return text_of(value.get("mean"), digits) + ("" if error is None else f" ± {float(error):.{digits}f}")
    if value is None:
        return "–"
    if isinstance(value, Sequence):
        return ", ".join(text_of(each, digits) for each in value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"
