"""The hook that hears of a run, and several of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from vaezoo.errors import warn

__all__ = ["Tracker", "Trackers"]


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
