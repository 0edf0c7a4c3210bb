"""The tracker `bar`."""

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bar:
    """A progress bar with distortion, rate, images/s and remaining time; silent if standard error is not a terminal.

    Args:
        console: standard error by default.
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
        """Moves the bar; figures that are not in `metrics` remain."""
        if self.task is None:
            return
        self.progress.update(self.task, completed=step)
        if "distortion" in metrics and "rate" in metrics:
            figures = f"D {metrics['distortion']:.1f}  R {metrics['rate']:.1f} nats"
            if "images_per_second" in metrics:
                figures += f"  {metrics['images_per_second']:,.0f} images/s"
            self.progress.update(self.task, figures=figures)

    def close(self) -> None:
        """Stops the bar and leaves it on the screen."""
        if self.task is not None:
            self.progress.stop()
            sys.stderr.flush()
