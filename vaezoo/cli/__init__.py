"""The command line. Each command calls one function of the library and prints the result."""

import logging
import os
import sys
import warnings

from vaezoo.cli import drawing, evaluation, listing, sharing, training
from vaezoo.cli.app import app
from vaezoo.errors import VaezooError

__all__ = ["app", "drawing", "evaluation", "listing", "main", "sharing", "training"]


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns 0, or 1 after an error, 2 after wrong usage, 130 after Ctrl-C, 143 after SIGTERM."""
    # Warnings are one line, without their location in the code.
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
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
