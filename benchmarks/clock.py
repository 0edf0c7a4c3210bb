"""Times of a training loop: call, first step, each step and return."""

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

    # The methods of a tracker: vaezoo's trainer calls them at the start, at every 100th step and at the last one.

    def start(self, name: str, steps: int, done: int) -> None:
        self.begin()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.at[step] = time.perf_counter() - self.called

    def close(self) -> None:
        """Does nothing."""

    def figures(self, windows: tuple[tuple[int, int], ...], steps: int, batch: int) -> list[float]:
        """Returns the seconds before the first step, and the images/s of each window of steps and of the whole call."""
        rates = [(last - first) * batch / (self.at[last] - self.at[first]) for first, last in windows]
        return [self.at[0], *rates, steps * batch / self.end]
