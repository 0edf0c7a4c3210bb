"""The application of the command line and its output."""

import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, CycloptsPanel, Parameter, UnknownOptionError
from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

if TYPE_CHECKING:
    from vaezoo.workflows.tables import Record, Table

app = App(
    name="vaezoo",
    help="A zoo of variational autoencoders: load, train and compare them. All figures in nats per example.",
    version=lambda: __import__("vaezoo").__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `main` prints a line
    error_formatter=lambda error: CycloptsPanel(hint_of_setting(error) or error),
)

Model = Annotated[str, Parameter(help="Pretrained model, folder or hf:owner/name.")]
Data = Annotated[str | None, Parameter(help="Data set; the training data set by default.")]
Device = Annotated[str, Parameter(help='"auto" takes a GPU if there is one; or "cpu", "cuda", …')]
Out = Annotated[Path | None, Parameter(help="Folder to write to.")]
Picture = Annotated[
    Path, Parameter(help="Folder to write to, or a file that ends in .png; an older picture is replaced.")
]
Json = Annotated[bool, Parameter(help="Print JSON.", negative=())]
Csv = Annotated[bool, Parameter(help="Print CSV.", negative=())]
PICTURES = Path("pictures")
UNLIMITED = 100_000  # columns


def hint_of_setting(error: CycloptsError) -> str:
    """Returns a message for `vaezoo train RECIPE --KEY VALUE` with the key of a recipe, otherwise an empty text."""
    if not isinstance(error, UnknownOptionError) or tuple(error.command_chain or ()) != ("train",):
        return ""
    from vaezoo.recipe.overrides import known_keys

    option, _, value = str(error.token.keyword or error.token.value).partition("=")
    table, dot, key = option.lstrip("-").replace("-", "_").rpartition(".")
    own = {name.lstrip("-").replace("-", "_") for each in error.argument_collection for name in each.names}
    close = difflib.get_close_matches(key, sorted(own | known_keys()), n=1)
    if not close or close[0] in own:
        return ""
    _, _, rest = " ".join(error.root_input_tokens or ()).partition(f"{option} ")
    given = value or ("" if rest.startswith("-") else rest.partition(" ")[0]) or "VALUE"
    setting = f"{table}{dot}{close[0]}={given}"
    return f"Unknown option: {option}. Settings of a recipe are written without dashes, after its name: {setting}"


def console() -> Console:
    """Returns a console for results; if the output is a file, lines are as long as needed unless COLUMNS is set."""
    limited = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(
        width=None if limited else UNLIMITED, soft_wrap=not limited, highlight=False, markup=False, emoji=False
    )


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Adds to a KeyboardInterrupt inside the block what is kept, for the message of `main`."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept) from None


def print_tables(tables: Sequence["Table"]) -> None:
    """Prints tables. Names and figures are never cut: columns that do not fit are left out and listed below."""
    out = console()
    for table in tables:
        shown, dropped = table.fitted(out.width)
        grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=table.title or None, title_justify="left")
        grid.pad_edge = grid.show_edge = False
        for heading, width in zip(shown.headings, shown.widths(out.width), strict=True):
            grid.add_column(heading, width=width, overflow="fold")
        for row in shown.rows:
            grid.add_row(*map(Text, row))
        out.print(grid, soft_wrap=False)
        missing = [f"Left out at {out.width} columns: {', '.join(dropped)} (--csv has all)."] if dropped else []
        for note in [*table.notes, *missing]:
            out.print(Text(note))


def print_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Prints a table of texts."""
    from vaezoo.workflows.tables import Table

    print_tables([Table(headings=headings, rows=rows)])


def print_records(records: "Sequence[Record]", *, json: bool, csv: bool) -> bool:
    """Prints records as JSON or CSV; returns whether either was asked for.

    Raises:
        ConfigError: both were.
    """
    from vaezoo.errors import ConfigError
    from vaezoo.workflows.tables import csv_text, json_text

    if json and csv:
        raise ConfigError("Got --json and --csv; expected one of them.")
    if json or csv:
        print(json_text(records) if json else csv_text(records))
    return json or csv
