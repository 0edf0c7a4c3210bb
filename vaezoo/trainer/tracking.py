"""`Tracker`, the interface of what receives the metrics of a run; trackers by name; trackers that need a package."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from vaezoo.errors import MissingExtraError, warn
from vaezoo.registry import Registry


class Tracker(Protocol):
    """Receives the metrics of a run. An exception of a tracker is reported once and does not end the run.

    A tracker that also has a method `advance(done: int)` receives the number of steps of the stage after each step; one
    with a method `stage(number: int, count: int)` receives, before `start`, which of how many stages begins, from 1.
    """

    def start(self, name: str, steps: int, done: int) -> None:
        """A stage of `steps` steps begins, or continues after `done` steps; a run has one or more stages."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """`metrics` were measured up to `step` of the stage: nats, or as their names state. All are finite."""

    def close(self) -> None:
        """The run has ended, successfully or not."""


# One file each in `vaezoo.trainer.trackers`; other packages add theirs as entry points.
trackers: Registry[Callable[[], Tracker]] = Registry("tracker", "vaezoo.trackers", "vaezoo.trainer.trackers", callable)


def chosen_trackers(names: Iterable[str | Tracker] | None) -> list[Tracker]:
    """Returns the trackers of names, and objects as they are; a progress bar for None.

    Raises:
        UnknownNameError: no tracker has the name.
        MissingExtraError: the package of a tracker is not installed.
    """
    asked = ["bar"] if names is None else [names] if isinstance(names, str) else list(names)
    makers = {each: trackers.get(each) for each in asked if isinstance(each, str)}
    return [makers[each]() if isinstance(each, str) else each for each in asked]


class Trackers:
    """Several trackers, none of which can end a run."""

    def __init__(self, members: Sequence[Tracker]) -> None:
        self.trackers = list(members)
        self._advancing = [tracker for tracker in self.trackers if callable(getattr(tracker, "advance", None))]
        self._reported: set[tuple[int, str]] = set()

    def stage(self, number: int, count: int) -> None:
        """Sends the number of the stage, from 1, to the trackers that receive it."""
        members = [tracker for tracker in self.trackers if callable(getattr(tracker, "stage", None))]
        self._notify(members, "stage", (number, count))

    def advance(self, done: int) -> None:
        """Sends the number of steps to the trackers that receive it."""
        if self._advancing:
            self._notify(self._advancing, "advance", (done,))

    def notify(self, event: str, *values: object) -> None:
        """Calls method `event` of each tracker; warns once of a method that raises."""
        self._notify(self.trackers, event, values)

    def _notify(self, members: Sequence[Tracker], event: str, values: tuple[object, ...]) -> None:
        for tracker in members:
            try:
                getattr(tracker, event)(*values)
            except Exception as error:  # a tracker must not end a run
                if (id(tracker), event) not in self._reported:
                    self._reported.add((id(tracker), event))
                    name = f"{type(tracker).__name__}.{event}"
                    warn(f"Tracker {name} failed: {type(error).__name__}: {error}. Training goes on.")


class Service(ABC):
    """A tracker that sends figures to an optional package, with the overall step of a run.

    It is opened once, and sends nothing if that fails. A resumed run is opened anew, in the same group.

    Raises:
        MissingExtraError: the package is not installed.
    """

    module: str
    extra: str

    def __init__(self) -> None:
        try:
            self.package: ModuleType = importlib.import_module(self.module)
        except ImportError as error:
            raise MissingExtraError(
                f"The tracker {self.extra!r} needs the package {self.extra}, which could not be imported ({error}). "
                f"Install it: pip install {self.extra}"
            ) from error
        self.folder: Path | None = None
        self.config: Mapping[str, object] = {}
        self._opened = False

    def prepare(self, folder: Path | None, config: Mapping[str, object]) -> None:
        """Receives, before a run starts, its folder (None if it writes nothing) and its recipe, as plain values."""
        self.folder, self.config = folder, config

    def start(self, name: str, steps: int, done: int) -> None:
        """Opens the service, when the first stage begins."""
        if not self._opened:
            self._opened = True
            self.open(name)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends all figures with the overall step."""
        self.send(int(metrics["step"]), {key: value for key, value in metrics.items() if key != "step"})

    @abstractmethod
    def open(self, name: str) -> None:
        """Opens the service for a run of this name."""

    @abstractmethod
    def send(self, step: int, figures: Mapping[str, float]) -> None:
        """Sends figures that were measured up to the overall `step`, if the service is open."""

    @abstractmethod
    def close(self) -> None:
        """Sends the remaining figures, if the service is open."""


class RunService(Service):
    """A service whose package returns a run with a method `log`."""

    def __init__(self, project: str | None = None) -> None:
        super().__init__()
        self.project, self.run = project, cast(Any, None)  # Any: a run of an optional package

    def send(self, step: int, figures: Mapping[str, float]) -> None:
        """Logs the figures."""
        if self.run is not None:
            self.run.log(dict(figures), step=step)
