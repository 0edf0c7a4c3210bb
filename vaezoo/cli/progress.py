"""Progress of long evaluations."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from vaezoo.trainer.trackers.bar import Bar

LONG = 60.0  # seconds left, from which on a hint is worth its line


class ShownProgress:
    """Shows (done, total) on standard error as training does: a bar on a terminal, otherwise a line from time to time.

    Args:
        unit: what is counted.
        hint: printed once if more than a minute is left.
        console: standard error by default.
        clock: seconds, from any origin.
        title: what takes long.
    """

    def __init__(
        self,
        unit: str,
        hint: str = "",
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        title: str = "evaluation",
    ) -> None:
        self.unit, self.hint, self.console, self.clock, self.title = unit, hint, console, clock, title
        self.bar: Bar | None = None
        self._began = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Shows the numbers when due; the bar ends with the last of them."""
        from vaezoo.trainer.trackers.bar import FIRST, Bar

        if self.bar is None:
            self.bar, self._began = Bar(self.console, self.clock, unit=self.unit, few=0), self.clock()
            self.bar.start(self.title, total, 0)
        self.bar.advance(done)
        if self.hint and self.clock() - self._began >= FIRST and (self.bar.remaining or 0.0) > LONG:
            self.bar.console.print(self.hint, markup=False, highlight=False, soft_wrap=True)
            self.hint = ""
        if done >= total:
            self.close()

    def close(self) -> None:
        """Ends the bar, if there is one."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
