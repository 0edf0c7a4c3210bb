"""The application of the command line and its output."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

app = App(
    name="vaezoo",
    help="A zoo of variational autoencoders: load, train and compare them. All figures in nats per example.",
    version=lambda: __import__("vaezoo").__version__,
    result_action="return_value",
)

Model = Annotated[str, Parameter(help="Pretrained model, folder or hf:owner/name.")]
Data = Annotated[str | None, Parameter(help="Data set; the training data set by default.")]
Device = Annotated[str, Parameter(help='"auto" takes a GPU if there is one; or "cpu", "cuda", …')]
Out = Annotated[Path | None, Parameter(help="Folder to write to.")]
Picture = Annotated[Path, Parameter(help="Folder to write to, or a file that ends in .png.")]
PICTURES = Path("pictures")


def console() -> Console:
    """Returns a console for results, which does not wrap lines if the output is a file."""
    terminal = sys.stdout.isatty()
    return Console(width=None if terminal else 160, soft_wrap=not terminal, highlight=False, markup=False, emoji=False)


def print_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Prints a table; the names in its first column are never cut."""
    first, *others = headings
    table = Table(Column(first, min_width=max((len(row[0]) for row in rows), default=0)), *others)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def show_progress(done: int, total: int) -> None:
    """Shows the progress of a long evaluation on a terminal."""
    if sys.stderr.isatty():
        line = "" if done == total else f"{done:,} of {total:,} examples"
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
