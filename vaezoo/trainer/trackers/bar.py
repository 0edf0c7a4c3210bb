"""The tracker `bar`."""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

FIRST, LINE, FRAME = 1.0, 30.0, 0.2  # seconds until the first line, between lines, between updates of a display
CELLS = 30  # of a bar in a notebook
FEW = 3  # steps after the first


class Bar:
    """Progress by time: a bar on a terminal and in a notebook; elsewhere a line after a second, and every 30 seconds.

    It shows the stage if there are several, steps, distortion, rate, and from a few steps on their pace and the
    remaining time.

    Args:
        console: standard error by default.
        clock: seconds, from any origin.
        unit: what is counted.
        few: number of steps that an estimate of the time needs after the first, which is slow; with 0 the first counts.
    """

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        unit: str = "step",
        few: int = FEW,
    ) -> None:
        self.console, self.clock, self.unit, self.few = console or Console(stderr=True), clock, unit, few
        terminal = self.console.is_terminal and not self.console.is_jupyter
        self.progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            disable=not terminal,
        )
        self.task: TaskID | None = None
        self._notebook: Any = None  # IPython's handle of a display
        self._every, self._next, self._warm = LINE, 0.0, False
        self._name, self._steps, self._done, self._first, self._began = "", 0, 0, 0, 0.0
        self._figures = self._speed = self._stage = ""
        self._lines = 0

    def stage(self, number: int, count: int) -> None:
        """Names the next stage, unless it is the only one."""
        self._finish()  # the previous stage, under its own number
        self._stage = f"stage {number} of {count}" if count > 1 else ""

    def start(self, name: str, steps: int, done: int) -> None:
        """Shows the bar of a stage, or prepares its lines."""
        self._finish()
        self._name, self._steps, self._done, self._first = name, steps, done, done
        self._began, self._figures, self._speed, self._lines = self.clock(), "", "", 0
        self._every, self._next, self._warm = LINE, self._began + FIRST, not self.few
        if not self.progress.disable:
            self._every = FRAME
            self.progress.start()
            self.task = self.progress.add_task(self._title(", "), total=steps, completed=done, figures="")
        elif self.console.is_jupyter:
            self._every, self._next = FRAME, self._began
            self._notebook = notebook_display(self._bar())

    def advance(self, done: int) -> None:
        """Shows the number of steps, when due; called after each step."""
        now = self.clock()
        if done <= self._first or not self._warm:  # the first step, and work before it, have a pace of their own
            self._began = now
            if done > self._first:
                self._first, self._warm = done, True
        self._done = done
        if now >= self._next:
            self._next = now + self._every
            self._show()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Shows the figures; those that are not in `metrics` remain."""
        self._done = step
        if "distortion" in metrics and "rate" in metrics:
            self._figures = f"D {metrics['distortion']:.1f}  R {metrics['rate']:.1f} nats"
            if "images_per_second" in metrics:
                self._speed = f"  {metrics['images_per_second']:,.0f} images/s"
        if self.task is not None or self._notebook is not None:
            self._show()

    def close(self) -> None:
        """Ends the bar and leaves it on the screen."""
        self._finish()
        if self.task is not None:
            self.progress.stop()
            self.task = None

    @property
    def remaining(self) -> float | None:
        """The remaining time at the pace so far, seconds; None before a few steps."""
        taken, seconds = self._done - self._first, self.clock() - self._began
        return seconds * (self._steps - self._done) / taken if taken > 0 and taken >= self.few and seconds > 0 else None

    def _finish(self) -> None:
        """Shows the last step of a stage, if anything of the stage was shown before."""
        if self._lines or self._notebook is not None:
            self._show()
        self._notebook, self._lines = None, 0

    def _show(self) -> None:
        if self.task is not None:
            self.progress.update(self.task, completed=self._done, figures=self._figures + self._speed)
        elif self._notebook is not None:
            self._notebook.update({"text/plain": self._bar()}, raw=True)
        else:
            self._lines += 1
            self.console.print(self._line(), markup=False, highlight=False, soft_wrap=True)

    def _title(self, between: str) -> str:
        return between.join(filter(None, (self._name, self._stage)))

    def _line(self) -> str:
        return f"{self._title(': ')}{', ' if self._stage else ': '}{self.unit} {self._state()}"

    def _state(self) -> str:
        share = f"{self._done:,} of {self._steps:,} ({100 * self._done / max(1, self._steps):.0f} %)"
        return ", ".join(filter(None, (share, self._figures, self._pace())))

    def _bar(self) -> str:
        filled = CELLS * self._done // max(1, self._steps)
        return f"{self._title(', ')} {'━' * filled}{'╌' * (CELLS - filled)} {self._state()}"

    def _pace(self) -> str:
        """Returns steps per second, and the remaining time at this pace; empty before a few steps."""
        if (seconds := self.remaining) is None:
            return ""
        pace = (self._done - self._first) / (self.clock() - self._began)
        per_second = f"{pace:,.1f} {self.unit}s/s" if pace >= 1 else f"{1 / pace:,.1f} s per {self.unit}"
        left = "" if self._done >= self._steps else f", {duration(seconds)} left"
        return f"{per_second}{self._speed.replace('  ', ', ')}{left}"


def duration(seconds: float) -> str:
    """Returns seconds as text: "45 s", "3 min 05 s", "2 h 10 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def notebook_display(text: str) -> Any:  # IPython has no types
    """Returns the handle of a new display in a notebook."""
    ipython = importlib.import_module("IPython.display")  # always there in a notebook
    return ipython.display({"text/plain": text}, raw=True, display_id=True)
