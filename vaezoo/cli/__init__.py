"""The command line. Each command calls one function of the library and prints the result."""

import io
import logging
import os
import sys
import warnings

from vaezoo.cli import compression, drawing, evaluation, listing, sharing, training
from vaezoo.cli.app import app
from vaezoo.errors import VaezooError, escaped

__all__ = ["app", "compression", "drawing", "evaluation", "listing", "main", "sharing", "training"]


class StandardError(logging.Handler):
    """Prints messages on the present `sys.stderr`, which a progress bar replaces, so that none is glued to the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message on a line of its own."""
        print(f"{fresh_line()}{self.format(record)}", file=sys.stderr)


def fresh_line() -> str:
    """Returns the codes that clear a line of progress on a terminal; an empty string elsewhere."""
    return "\r\033[K" if sys.stderr.isatty() and sys.stderr is sys.__stderr__ else ""


def prepare_streams() -> None:
    """Replaces closed standard streams by the null device, and characters that a stream's encoding lacks by "?"."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns 0, or 1 after an error, 2 after wrong usage, 130 after Ctrl-C, 143 after SIGTERM."""
    prepare_streams()
    # Warnings are one line, without their location in the code.
    warnings.showwarning = lambda message, *_, **__: print(f"{fresh_line()}warning: {message}", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path or a name may have characters that the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(format="%(message)s", handlers=[StandardError()])
    # Only the messages of vaezoo: other libraries log every request.
    logging.getLogger("vaezoo").setLevel(logging.INFO if first else logging.WARNING)
    try:
        app(arguments, exit_on_error=True)
        sys.stdout.flush()
    except VaezooError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt as error:
        print(f"{fresh_line()}{'; '.join(filter(None, ('Interrupted', str(error))))}.", file=sys.stderr)
        return 130
    except OSError as error:  # such as of a full disk under the output
        if not isinstance(error, BrokenPipeError):
            print(f"error [output]: {type(error).__name__}: {escaped(str(error))}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
