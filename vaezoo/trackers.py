"""Where metrics go besides `metrics.jsonl`: one small hook, and the progress bar."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["Bar", "Tracker", "notify"]


class Tracker(Protocol):
    """Receives what a run reports. Whatever a tracker raises is reported once and does not end the run."""

    def start(self, name: str, steps: int, done: int) -> None:
        """A run of `steps` steps begins or goes on after `done`."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """`metrics` were measured up to `step`: nats, or as their names say."""

    def close(self) -> None:
        """The run has ended, well or not."""


class Bar:
    """A progress bar with rate, distortion, images/s and remaining time; silent when standard error is no terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        text = TextColumn("{task.fields[figures]}")
        self.progress = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), text,
            TimeRemainingColumn(), console=self.console, disable=not self.console.is_terminal, transient=False,
        )  # fmt: skip
        self.task: TaskID | None = None

    def start(self, name: str, steps: int, done: int) -> None:
        """Shows the bar."""
        self.progress.start()
        self.task = self.progress.add_task(name, total=steps, completed=done, figures="")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Moves the bar."""
        if self.task is not None:
            figures = f"D {metrics['distortion']:.1f}  R {metrics['rate']:.1f} nats"
            if "images_per_second" in metrics:
                figures += f"  {metrics['images_per_second']:,.0f} images/s"
            self.progress.update(self.task, completed=step, figures=figures)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self.progress.stop()
        sys.stderr.flush()


def notify(trackers: Sequence[Tracker], event: str, *values: object) -> None:
    """Calls `event` on each tracker; one that throws is warned about and otherwise ignored."""
    for tracker in trackers:
        try:
            getattr(tracker, event)(*values)
        except Exception as error:  # a tracker is never worth a run
            warnings.warn(f"Tracker {type(tracker).__name__}.{event} failed: {error}", stacklevel=2)
