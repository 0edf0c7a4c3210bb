"""The tracker `tensorboard`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from vaezoo.errors import ConfigError
from vaezoo.trainer.tracking import Service


class TensorBoard(Service):
    """Event files for `tensorboard --logdir`, written by `torch.utils.tensorboard`.

    Args:
        folder: of the files; `tensorboard` in the run's folder by default.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    module, extra = "torch.utils.tensorboard", "tensorboard"

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__()
        self.place = None if folder is None else Path(folder)
        self._writer: Any = None  # a SummaryWriter
        self._failed = False

    def prepare(self, folder: Path | None, config: Mapping[str, object]) -> None:
        """Raises ConfigError if the run writes nothing and no folder was given."""
        super().prepare(folder, config)
        if self.place is None and folder is None:
            raise ConfigError(
                "Got the tracker 'tensorboard' with out=None; expected a folder for its files. Give the run one "
                "(out=…), or pass TensorBoard(folder) of vaezoo.trainer.trackers."
            )

    def open(self, name: str) -> None:
        """Does nothing: the writer is created at the first `send`, whose step sets `purge_step`."""

    def send(self, step: int, figures: Mapping[str, float]) -> None:
        """Writes a scalar for each figure."""
        if self._writer is None and not self._failed:
            self._failed = True  # until the writer exists
            place = self.place or cast(Path, self.folder) / "tensorboard"
            self._writer = self.package.SummaryWriter(str(place), purge_step=step)
        if self._writer is not None:
            for key, value in figures.items():
                self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Writes the remaining figures."""
        if self._writer is not None:
            self._writer.close()


tensorboard = TensorBoard
