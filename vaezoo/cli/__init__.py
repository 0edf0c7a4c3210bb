"""The command line. Each command calls one function of the library and prints the result."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from vaezoo.cli import data, drawing, evaluation, listing, sharing, training
from vaezoo.cli.app import app
from vaezoo.errors import VaezooError

__all__ = ["app", "data", "drawing", "evaluation", "listing", "main", "sharing", "training"]


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Prints a warning as one line, without its location in the code."""
    print(f"warning: {message}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns 0, or 1 after an error, 2 after wrong usage, 130 after Ctrl-C, 143 after SIGTERM."""
    warnings.showwarning = show_warning
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(format="%(message)s")
    # Only the messages of vaezoo: other libraries log every request.
    logging.getLogger("vaezoo").setLevel(logging.INFO if first else logging.WARNING)
    try:
        app(arguments, exit_on_error=True)
    except VaezooError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
