"""When a loop was called, took its first step, passed each step, and came back."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Clock:
    """Receives `begin` before the first step, `tick` after each, `finish` at the end; seconds since it was made."""

    def __init__(self) -> None:
        self.called, self.done = time.perf_counter(), 0
        self.at: dict[int, float] = {}
        self.end = float("nan")

    def begin(self) -> None:
        self.at[0] = time.perf_counter() - self.called

    def tick(self) -> None:
        self.done += 1
        self.at[self.done] = time.perf_counter() - self.called

    def finish(self) -> None:
        self.end = time.perf_counter() - self.called

    # vaezoo's trainer tells its trackers of the start and of every 100th step, and of the last one.

    def start(self, name: str, steps: int, done: int) -> None:
        self.begin()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.at[step] = time.perf_counter() - self.called

    def close(self) -> None:
        """Nothing to close."""

    # What is reported

    def figures(self, windows: tuple[tuple[int, int], ...], steps: int, batch: int) -> list[float]:
        """Returns the seconds before the first step, images/s in each window of steps, and over the whole call."""
        rates = [(last - first) * batch / (self.at[last] - self.at[first]) for first, last in windows]
        return [self.at[0], *rates, steps * batch / self.end]
