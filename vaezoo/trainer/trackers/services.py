"""TensorBoard, Trackio and Weights & Biases: optional packages, imported when they are asked for."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from vaezoo.errors import ConfigError, MissingExtraError

__all__ = ["Service", "TensorBoard", "Trackio", "WandB"]


class Service(ABC):
    """A tracker that sends figures to a package, with the overall step of a run.

    It is opened once, and is silent afterwards if that fails: nothing is tried again at each line of metrics. A run
    that is resumed is opened anew, beside what it sent before, in the same group.

    Raises:
        MissingExtraError: the package is not installed.
    """

    module: str
    extra: str

    def __init__(self) -> None:
        self.package = _imported(self.module, self.extra)
        self.folder: Path | None = None
        self.config: Mapping[str, object] = {}
        self._asked = False

    def prepare(self, folder: Path | None, config: Mapping[str, object]) -> None:
        """Hears, before a run starts, where it writes (None for nowhere) and by which recipe, as plain values."""
        self.folder, self.config = folder, config

    def start(self, name: str, steps: int, done: int) -> None:
        """Opens the service when the first stage begins."""
        if not self._asked:
            self._asked = True
            self.open(name)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends all figures but the step, which goes with them."""
        self.send(int(metrics["step"]), {key: value for key, value in metrics.items() if key != "step"})

    @abstractmethod
    def open(self, name: str) -> None:
        """Opens the service for a run of this name."""

    @abstractmethod
    def send(self, step: int, figures: Mapping[str, float]) -> None:
        """Sends figures that were measured up to the overall `step`, if the service is open."""

    @abstractmethod
    def close(self) -> None:
        """Sends what is left, if the service is open."""


class TensorBoard(Service):
    """Event files for `tensorboard --logdir`, written by `torch.utils.tensorboard`.

    Args:
        folder: where they go; `tensorboard` in the run's folder by default.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    module, extra = "torch.utils.tensorboard", "tensorboard"

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__()
        self.place = None if folder is None else Path(folder)
        self._writer: _Writer | None = None
        self._opened = False

    def prepare(self, folder: Path | None, config: Mapping[str, object]) -> None:
        """Makes sure that there is a folder to write to.

        Raises:
            ConfigError: the run writes nothing, and no folder was given.
        """
        super().prepare(folder, config)
        if self.place is None and folder is None:
            raise ConfigError(
                "Got the tracker 'tensorboard' with out=None; expected a folder for its files. Give the run one "
                "(out=…), or pass TensorBoard(folder) of vaezoo.trainer.trackers."
            )

    def open(self, name: str) -> None:
        """Leaves the files to the first figures, whose step tells what of an interrupted run is to be forgotten."""

    def send(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes a scalar for each figure."""
        if not self._opened:
            self._opened = True
            place = self.place or cast(Path, self.folder) / "tensorboard"
            self._writer = self.package.SummaryWriter(str(place), purge_step=step)
        if self._writer is not None:
            for key, value in figures.items():
                self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            self._writer.close()


class Runs(Service):
    """A service whose package makes a run that logs."""

    def __init__(self) -> None:
        super().__init__()
        self._run: _Run | None = None

    def send(self, step: int, figures: Mapping[str, float]) -> None:
        """Logs the figures."""
        if self._run is not None:
            self._run.log(dict(figures), step=step)


class WandB(Runs):
    """Weights & Biases; `WANDB_MODE=offline` keeps a run on this machine, and `WANDB_PROJECT` is heeded.

    Args:
        project: which project the run belongs to; `WANDB_PROJECT`, or else "vaezoo", by default.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    module, extra = "wandb", "wandb"

    def __init__(self, project: str | None = None) -> None:
        super().__init__()
        self.project = project

    def open(self, name: str) -> None:
        """Begins a run of its own, beside one that the caller may have; what is printed is not captured."""
        self._run = self.package.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or "vaezoo",
            name=name,
            group=None if self.folder is None else self.folder.name,
            dir=None if self.folder is None else str(self.folder),
            config=dict(self.config),
            reinit="create_new",
            settings=self.package.Settings(console="off"),
        )

    def close(self) -> None:
        """Ends the run."""
        if self._run is not None:
            self._run.finish()


class Trackio(Runs):
    """Trackio: a local database, or a Space where `TRACKIO_SPACE_ID` names one; `trackio show` opens the dashboard.

    Args:
        project: which project the run belongs to.

    Raises:
        MissingExtraError: trackio is not installed.
    """

    module, extra = "trackio", "trackio"

    def __init__(self, project: str = "vaezoo") -> None:
        super().__init__()
        self.project = project

    def open(self, name: str) -> None:
        """Begins a run; no dashboard is opened."""
        group = None if self.folder is None else self.folder.name
        self._run = self.package.init(
            project=self.project, name=name, group=group, config=dict(self.config), embed=False
        )

    def close(self) -> None:
        """Ends the run."""
        if self._run is not None:
            self.package.finish()


class _Writer(Protocol):
    """What is used of a `SummaryWriter`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def close(self) -> None: ...


class _Run(Protocol):
    """What is used of a run of wandb or trackio."""

    def log(self, metrics: dict[str, float], /, *, step: int) -> None: ...

    def finish(self) -> None: ...


def _imported(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"The tracker {extra!r} needs the package {extra}, which could not be imported ({error}). Install it: "
            f'pip install "vaezoo[{extra}]"'
        ) from error
