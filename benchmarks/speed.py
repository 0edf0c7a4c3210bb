"""Images per second of vaezoo, of loops written by hand and of other libraries: interleaved rounds, medians, ratios.

    python benchmarks/speed.py --summary
    python benchmarks/speed.py [--rounds 5] [--only mlp,conv,vq,iwae,libraries,evidence] [--threads 2] [--write]

The first command compares vaezoo's trainer with the straight loop with fused Adam, with pythae and with Lightning, for
an MLP and for convolutions, in seven rounds. The second one prints the tables of docs/explanation/benchmarks.md, each
as soon as it is measured, and with --write puts them there; all of them take about 40 minutes on two cores. Keep the
machine idle meanwhile. --quick takes four steps of everything, as a test of the script; its figures mean nothing.

Every measurement is a process of its own, since the C library's memory management, a large part of some rows, depends
on everything that a process did before.

The tasks, the rows of vaezoo and their options are in tasks.py, the straight loops in straight.py. vaezoo is timed as
`Trainer.fit` with a tracker, logging, checks and validation included; other libraries are timed by callbacks. The time
before the first step is a column of its own: construction of model, loader and optimizer, conversion of the images to
one tensor, vaezoo's check of the data; imports and reading the data set are not included. A few steps warm the process
up first.

pythae and Lightning are no requirements of vaezoo; the row of a missing one is marked. In an environment of its own:

    pip install -e . -r benchmarks/requirements.txt

or in a folder beside an existing environment that has vaezoo. pythae 0.1.2 also requires the old `dataclasses`
backport, which it does not use, hence --no-deps; installed like this it runs with torch 2.15:

    pip install --no-deps --target peers pythae pydantic annotated-types typing-inspection imageio \\
        lightning pytorch-lightning lightning-utilities torchmetrics
    pip install --no-deps --target peers pydantic-core==VERSION    (the one that `import pydantic` requires)
    PYTHONPATH=peers python benchmarks/speed.py
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import peers
import straight
import torch
from clock import Clock
from tasks import TASKS, loops, twin
from torch import Tensor

from vaezoo.data import binarize, load_dataset

PAGE = Path(__file__).resolve().parent.parent / "docs" / "explanation" / "benchmarks.md"
START, END = "<!-- speed -->\n", "<!-- end -->"
SAMPLES = 5000
SUMMARY = ("vaezoo", "straight loop, fused Adam", "pythae", "Lightning, default logging")  # rows of --summary

Row = Callable[[], list[float]]
Found = dict[str, list[list[float]] | str]  # a row's figures, one list for each round; or why there are none


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and for each row the library that it needs ("" for none)."""

    title: str
    columns: list[str]
    rows: dict[str, str]


def training(name: str, quick: bool) -> Table:
    """Returns the table of a training task."""
    task = TASKS[name]
    steps, windows = (4, ((0, 4),)) if quick else (task.steps, task.windows)
    columns = ["before the first step, s", *(f"steps {first:,}-{last:,}" for first, last in windows)]
    rows = {row: library for row, (_, library) in loops(name).items()}
    return Table(f"{task.title}; images/s", [*columns, f"the whole run of {steps:,} steps"], rows)


def train(name: str, row: str, quick: bool) -> list[float]:
    """Measures a row of a training task, in this process."""
    task, loop = TASKS[name], loops(name)[row][0]
    data = task.data()
    steps, windows = (4, ((0, 4),)) if quick else (task.steps, task.windows)
    if not quick:
        loop(Clock(), data, 20)  # the first steps of a process are slower
    clock = Clock()
    loop(clock, data, steps)
    clock.finish()
    return clock.figures(windows, steps, task.batch)


EVIDENCE = {
    "vaezoo": "",
    "straight, ten images in chunks of 1,000 decodings": "",
    "straight, image by image": "",
    "pythae, `get_nll`": "pythae",
}


def evidence(quick: bool) -> Table:
    """Returns the table of importance-weighted evidence."""
    samples = 100 if quick else SAMPLES
    return Table(f"Importance-weighted evidence, K = {samples:,}, of the MLP 2 x 200; images/s", ["evidence"], EVIDENCE)


def bound(row: str, quick: bool) -> list[float]:
    """Measures a row of importance-weighted evidence, in this process."""
    plain = straight.iwae()
    test = binarize(load_dataset("mnist", "test"), "static")
    model = twin(TASKS["iwae"], plain, test).eval()
    samples = 100 if quick else SAMPLES
    ways: list[tuple[int, Callable[..., Tensor]]] = [
        (200, model.log_evidence),
        (200, partial(straight.evidence_in_chunks, plain)),
        (20, partial(straight.evidence_one_by_one, plain)),
        (20, partial(peers.pythae_evidence, plain)),
    ]
    count, way = ways[list(EVIDENCE).index(row)]
    x = test.batch(torch.arange(2 if quick else count))
    way(x[:1], samples=samples)
    start = time.perf_counter()
    way(x, samples=samples)
    return [len(x) / (time.perf_counter() - start)]


def measured(name: str, row: str, options: argparse.Namespace) -> list[float]:
    """Measures a row in a process of its own; raises RuntimeError with the last line of its error output."""
    command = [sys.executable, __file__, "--only", name, "--row", row, "--threads", str(options.threads)]
    done = subprocess.run([*command, *(["--quick"] if options.quick else [])], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    figures: list[float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def rounds_of(rows: Mapping[str, Row | str], rounds: int) -> Found:
    """Measures all rows in turn, each round starting at another one; a row that fails is not measured again."""
    found: Found = {name: [] if callable(row) else row for name, row in rows.items()}
    names = list(rows)
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            row, figures = rows[name], found[name]
            if not callable(row) or isinstance(figures, str):
                continue
            try:
                figures.append(row())
            except Exception as error:  # the failure of one library must not end the run
                found[name] = f"failed: {str(error).splitlines()[0][:100]}"
    return found


def table(title: str, columns: list[str], found: Found) -> str:
    """Returns a table of medians, each with the median ratio of vaezoo to it within a round, and the spread."""
    lines = [f"**{title}**", "", f"| | {' | '.join(columns)} | least - most |", "| --- " * (len(columns) + 2) + "|"]
    own = found["vaezoo"]
    for name, figures in found.items():
        if isinstance(figures, str):
            lines.append(f"| {name} | {figures} |" + " |" * len(columns))
            continue
        cells = []
        for place, heading in enumerate(columns):
            values = [each[place] for each in figures]
            median = statistics.median(values)
            if heading.endswith(", s"):
                cells.append(f"{median:.1f}")
                continue
            cells.append(f"{median:,.0f}" if median >= 100 else f"{median:.1f}")
            if name != "vaezoo" and not isinstance(own, str):
                ratios = [mine[place] / value for mine, value in zip(own, values, strict=True)]
                cells[-1] += f" ({statistics.median(ratios):.2f} ×)"
        low, high = min(each[-1] for each in figures), max(each[-1] for each in figures)
        spread = f"{low:,.0f} - {high:,.0f}" if low >= 100 else f"{low:.1f} - {high:.1f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {spread} |")
    return "\n".join(lines)


def machine(rounds: int, threads: int) -> str:
    """Returns a description of the machine and its software."""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
        processor = models[0] if models else processor
    load = f", load {os.getloadavg()[0]:.1f} before the start" if hasattr(os, "getloadavg") else ""
    return (
        f"{processor} ({torch.backends.cpu.get_cpu_capability()}), {os.cpu_count()} cores, {threads} threads{load}; "
        f"torch {torch.__version__}, Python {platform.python_version()}; medians of {rounds} interleaved rounds. "
        "Every measurement is a process of its own. "
        "In brackets: the speed of vaezoo with default settings relative to the row. "
        "The spread is that of the last column."
    )


def arguments() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--summary", action="store_true", help=f"only {', '.join(SUMMARY)}: an MLP and convolutions")
    parser.add_argument("--rounds", type=int, help="5 by default, 7 with --summary")
    parser.add_argument("--only", default=",".join([*TASKS, "evidence"]))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/explanation/benchmarks.md")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything")
    parser.add_argument("--row", help="measure this row of --only in this process, and print its figures alone")
    options = parser.parse_args()
    options.only = ["libraries", "conv"] if options.summary else options.only.split(",")
    options.rounds = options.rounds or (7 if options.summary else 5)
    unknown = set(options.only) - {*TASKS, "evidence"}
    if unknown:
        parser.error(f"--only takes {', '.join([*TASKS, 'evidence'])}; got {', '.join(sorted(unknown))}")
    if options.write and (options.quick or options.summary or len(options.only) <= len(TASKS) or options.rounds < 5):
        parser.error("--write takes all tables of at least five rounds of one run")
    return options


def main() -> None:
    """Measures and prints the tables."""
    options = arguments()
    if options.row:
        torch.set_num_threads(options.threads)
        name = options.only[0]
        print(
            json.dumps(
                bound(options.row, options.quick) if name == "evidence" else train(name, options.row, options.quick)
            )
        )
        return
    parts = [machine(options.rounds, options.threads)]
    print(parts[0], flush=True)
    for name in options.only:
        asked = evidence(options.quick) if name == "evidence" else training(name, options.quick)
        rows = {
            row: "not installed" if library and not peers.installed(library) else partial(measured, name, row, options)
            for row, library in asked.rows.items()
            if not options.summary or row in SUMMARY
        }
        parts.append(table(asked.title, asked.columns, rounds_of(rows, options.rounds)))
        print(f"\n{parts[-1]}", flush=True)
    if options.write:
        before, marker, rest = PAGE.read_text(encoding="utf-8").partition(START)
        tables = "\n\n".join(parts)
        PAGE.write_text(f"{before}{marker}{tables}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
