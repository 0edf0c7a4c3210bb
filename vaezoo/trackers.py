"""Where metrics go besides `metrics.jsonl`: one small hook, and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vaezoo.errors import warn

__all__ = ["Bar", "Tracker", "Trackers"]


class Tracker(Protocol):
    """Receives what a run reports. Whatever a tracker raises is reported once and does not end the run."""

    def start(self, name: str, steps: int, done: int) -> None:
        """A stage of `steps` steps begins or goes on after `done`; a run has one stage or several."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """`metrics` were measured up to `step` of the stage: nats, or as their names say. All are finite."""

    def close(self) -> None:
        """The run has ended, well or not."""


class Trackers:
    """Several trackers, none of which can end a run."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = list(trackers)
        self._reported: set[tuple[int, str]] = set()

    def notify(self, event: str, *values: object) -> None:
        """Calls `event` on each tracker; one that throws is warned about at its first time, and otherwise ignored."""
        for tracker in self.trackers:
            try:
                getattr(tracker, event)(*values)
            except Exception as error:  # a tracker is never worth a run
                if (id(tracker), event) not in self._reported:
                    self._reported.add((id(tracker), event))
                    name = f"{type(tracker).__name__}.{event}"
                    warn(f"Tracker {name} failed: {type(error).__name__}: {error}. Training goes on.")


class Bar:
    """A progress bar with distortion, rate, images/s and remaining time; silent when standard error is no terminal.

    Args:
        console: where it is drawn; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None

    def start(self, name: str, steps: int, done: int) -> None:
        """Shows the bar."""
        if self.console.is_terminal:
            self.progress.start()
            self.task = self.progress.add_task(name, total=steps, completed=done, figures="")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Moves the bar; figures that `metrics` lacks stay as they are."""
        if self.task is None:
            return
        self.progress.update(self.task, completed=step)
        if "distortion" in metrics and "rate" in metrics:
            figures = f"D {metrics['distortion']:.1f}  R {metrics['rate']:.1f} nats"
            if "images_per_second" in metrics:
                figures += f"  {metrics['images_per_second']:,.0f} images/s"
            self.progress.update(self.task, figures=figures)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self.task is not None:
            self.progress.stop()
            sys.stderr.flush()
