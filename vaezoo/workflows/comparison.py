"""`Comparison`: the lines of `compare` as tables, records and pages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vaezoo.core import VAE, as_part
from vaezoo.evaluation import Estimate, Report, paired_difference
from vaezoo.evaluation.metric import Metric, all_metrics, text_of
from vaezoo.storage.files import write_file
from vaezoo.workflows.tables import Table, csv_text, json_text

LITTLE_RATE = 0.1  # nats; below it the latents carry no information
FEW_UNITS = 0.1  # of the latents
#: the columns that are left out first where a terminal is narrow
OPTIONAL = ("note", "images/s", "parameters", "distortion", "bits/dim", "ESS", "codes", "active", "PSNR", "rate")
LAST = ("PSNR", "distortion")  # of these, where a row has no bound
MEASURES = {"mass": "probability masses", "density": "probability densities", "loss": "losses, no likelihood"}
APART = (
    "Figures of different tables do not compare: a density, whose nats depend on the units of x, is not a probability; "
    "log p(x given c) is not log p(x); images that are binarized or padded otherwise are other data."
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Row:
    """A row of a comparison; for several seeds, means over them and the standard deviation of the evidence.

    `evidences` is the log-evidence of each image, (N,), nats, or None; `statistics` is the digest of these images.
    """

    name: str
    report: Report
    seeds: int
    spread: float | None
    images_per_second: float
    model: VAE
    evidences: Tensor | None
    statistics: str

    def __repr__(self) -> str:
        """Returns name, bound and log-evidence in one line."""
        figures = ", ".join(f"{key} {text_of(self.report.values.get(key))}" for key in ("bound", "log_evidence"))
        return f"{self.name}: {figures} ({self.group[0]})"

    @property
    def group(self) -> tuple[str, str]:
        """What figures of rows must share to compare: masses, densities or losses, given c or not, and the images."""
        conditional = self.model.context and not as_part(self.model.encoder).takes_unlabelled
        return MEASURES.get(self.report.measure, "nats") + (" given c" if conditional else ""), self.statistics

    @property
    def mark(self) -> str:
        """A note on a spread, an empty rate or inactive latents; otherwise an empty string."""
        rate, active = self.report.rate.mean, self.report.active_units
        notes = [f"± {self.spread:.2f} over {self.seeds} seeds"] if self.spread is not None else []
        if rate is not None and rate < LITTLE_RATE:
            notes.append("rate under 0.1 nats")
        elif active is not None and active < FEW_UNITS * self.report.latents:
            notes.append("few active units")
        return "; ".join(notes)

    def above(self, other: "Row") -> Estimate:
        """Returns the difference of the log-evidence from that of another row, nats, with its paired standard error.

        The mean is None unless both have an evidence of the same images with the same K, and both are those of masses
        or both of densities.
        """
        pair = (self.evidences, other.evidences)
        same = self.group == other.group and self.report.samples == other.report.samples
        if not same or pair[0] is None or pair[1] is None:
            return Estimate(mean=None)
        return paired_difference(pair[0], pair[1])


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A row for a model that could not be trained or evaluated."""

    name: str
    reason: str


class Comparison(Sequence[Row | Failure]):
    """The lines of `compare`; rows whose figures do not compare are in different tables.

    Args:
        lines: rows and failures, such as the iterator that `compare` returns.
    """

    def __init__(self, lines: Iterable[Row | Failure]) -> None:
        self.lines = list(lines)

    def __len__(self) -> int:
        """Returns the number of models."""
        return len(self.lines)

    def __getitem__(self, index: Any) -> Any:  # an item or a slice, as of a list
        """Returns a line, or the lines of a slice."""
        return self.lines[index]

    @property
    def rows(self) -> list[Row]:
        """The models that were evaluated."""
        return [line for line in self.lines if isinstance(line, Row)]

    @property
    def groups(self) -> list[list[Row]]:
        """The rows of each table, in the order of their first ones."""
        found: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.group, []).append(row)
        return list(found.values())

    @property
    def notes(self) -> list[str]:
        """The sentences that hold for all tables: why there are several, and which models failed."""
        failures = [f"{line.name}: {line.reason}" for line in self.lines if isinstance(line, Failure)]
        return ([APART] if len(self.groups) > 1 else []) + failures

    def tables(self) -> list[Table]:
        """Returns a table for each group of rows that compare."""
        return [table_of(rows) for rows in self.groups]

    def records(self) -> list[dict[str, object]]:
        """Returns plain values of each line: its metrics, or the reason of its failure."""
        references = {row.group: reference_of(rows) for rows in self.groups for row in rows[:1]}
        found = list[dict[str, object]]()
        for line in self.lines:
            if isinstance(line, Failure):
                found.append({"name": line.name, "failure": line.reason})
                continue
            reference = references[line.group]
            above = Estimate(mean=None) if reference is None or reference is line else line.above(reference)
            facts = {"seeds": line.seeds, "spread": line.spread, "images_per_second": line.images_per_second}
            difference = {"reference": reference.name if reference else None, "mean": above.mean, "error": above.error}
            found.append({"name": line.name, **line.report.as_dict(), **facts, "difference": difference})
        return found

    def markdown(self) -> str:
        """Returns the tables and notes as a Markdown page."""
        return "\n\n".join([*(table.markdown() for table in self.tables()), *self.notes])

    def write(self, folder: Path) -> Path:
        """Writes `comparison.md`, `comparison.json` and `comparison.csv`; returns the first."""
        folder.mkdir(parents=True, exist_ok=True)
        records = self.records()
        write_file(folder / "comparison.json", f"{json_text(records)}\n".encode())
        write_file(folder / "comparison.csv", f"{csv_text(records)}\n".encode())
        write_file(folder / "comparison.md", f"{self.markdown()}\n".encode())
        return folder / "comparison.md"

    def __repr__(self) -> str:
        """Returns one line for each model."""
        return "\n".join(map(repr, self.lines)) or "Comparison()"

    def _repr_html_(self) -> str:
        """Returns the tables as HTML, for notebooks."""
        notes = Table(headings=("",), rows=(), notes=self.notes).html().partition("</table>")[2]
        return "\n".join([*(table.html() for table in self.tables()), notes])


def reference_of(rows: Sequence[Row]) -> Row | None:
    """Returns the row that evidences are compared with: "vae", else the first that has an evidence, or None."""
    known = [row for row in rows if row.evidences is not None]
    return next((row for row in known if row.name == "vae"), known[0] if known else None)


def columns(rows: Sequence[Row]) -> dict[str, Metric]:
    """Returns the metrics that have a column: those that any of the rows has."""
    return {
        key: metric
        for key, metric in all_metrics().items()
        if metric.heading and any(metric.in_table(key, row.report.as_dict()) != "–" for row in rows)
    }


def table_of(rows: Sequence[Row]) -> Table:
    """Returns the table of rows of one group."""
    reference, shown = reference_of(rows), columns(rows)
    cells = list[tuple[str, ...]]()
    for row in rows:
        values = row.report.as_dict()
        figures = [metric.in_table(key, values) for key, metric in shown.items()]
        above = "" if reference is None or reference is row else text_of(row.above(reference))
        cells.append((row.name, *figures, above, f"{row.images_per_second:,.0f}", row.mark))
    difference = f"above {reference.name}" if reference else ""
    headings = ("model", *(metric.heading for metric in shown.values()), difference, "images/s", "note")
    without = any(row.report.bound.mean is None for row in rows)  # they compare by the figures of reconstructions
    first = rows[0].report
    kind = "" if first.binarization == "none" else "binarized "
    shape = " × ".join(map(str, rows[0].model.shape or ()))
    table = Table(
        headings=headings,
        rows=cells,
        title=f"{kind}{first.data}, {shape}: {rows[0].group[0]}",
        notes=[*measured_on(rows), *reasons(rows)],
        figures=headings[1:-1],
        optional=(*(each for each in OPTIONAL if each not in LAST), difference, *LAST) if without else OPTIONAL,
    )
    return table if reference and len(rows) > 1 else table.without([difference])


def reasons(rows: Sequence[Row]) -> list[str]:
    """Returns the sentences that state why bounds or evidences are missing, each with the names of its rows."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if row.report.reason:
            named.setdefault(row.report.reason, []).append(row.name)
    return [f"{', '.join(names)}: {reason}" for reason, names in named.items()]


def measured_on(rows: Sequence[Row]) -> list[str]:
    """Returns a description of the data, of K and of the errors of a table."""
    report = next((row.report for row in rows if row.evidences is not None), rows[0].report)
    seed = "" if report.subset_seed is None else f", chosen with seed {report.subset_seed}"
    seed += f", binarized once with seed {report.binarization_seed}" if report.binarization_seed else ""
    text = f"{report.examples:,} {report.split} examples of {report.data}{seed}; nats per example; ± is the standard"
    drawn = (
        " Binarizing the same images again changes a mean by up to 0.1 nats." if report.binarization != "none" else ""
    )
    if reference_of(rows) is None:
        return [f"{text} error of the mean."]
    return [
        f"{text} error of the mean, under 'above …' that of the paired difference on the same examples. Log-evidence "
        f"with K = {report.samples}; higher is better. Training again with another seed also changes a figure, often "
        f"by more than ±; a smaller difference does not rank two models.{drawn}"
    ]
