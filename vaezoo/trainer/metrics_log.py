"""What a run reports: lines of metrics in memory, in `metrics.jsonl` and to trackers.

Only `timing.jsonl` holds a clock: the metrics of a run that was stopped and went on are those of one that was not.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaezoo.errors import CheckpointError
from vaezoo.storage.files import write_file
from vaezoo.trainer.trackers.hook import Tracker, Trackers

__all__ = ["MetricsLog"]

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"


class MetricsLog:
    """The lines of one run.

    Args:
        folder: where the files are; None keeps the lines in memory alone.
        trackers: what else hears of them.
    """

    def __init__(self, folder: Path | None, trackers: Sequence[Tracker]) -> None:
        self.folder, self.trackers = folder, Trackers(trackers)
        self.history: list[dict[str, float | None]] = []

    def begin(self, lines: int = 0) -> bool:
        """Starts over after the first `lines` lines of the file; says whether the file had that many.

        Raises:
            CheckpointError: the folder cannot be written, or a line is no JSON.
        """
        self.history = []
        if self.folder is None:
            return lines == 0
        path = self.folder / METRICS
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = path.read_text(encoding="utf-8").splitlines()[:lines] if lines and path.exists() else []
            self.history = [json.loads(line) for line in kept]
        except (OSError, ValueError) as error:
            raise CheckpointError(f"Could not go on with {path}: {error}. Choose another folder.") from None
        write_file(path, "".join(f"{line}\n" for line in kept).encode())
        return len(kept) == lines

    def record(self, metrics: Mapping[str, float]) -> None:
        """Adds a line; a figure that is NaN or infinite is None there."""
        line = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        self.history.append(line)
        self._append(METRICS, line)

    def notify(self, done: int, metrics: Mapping[str, float], images_per_second: float | None = None) -> None:
        """Tells the trackers of finite figures, measured up to step `done` of the stage."""
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        if images_per_second is not None:
            self._append(TIMING, {"step": metrics["step"], "images_per_second": images_per_second})
            finite["images_per_second"] = images_per_second
        self.trackers.notify("log", done, finite)

    def flush(self) -> None:
        """Makes the lines durable, so that no checkpoint knows of more lines than there are."""
        if self.folder is not None:
            try:
                with open(self.folder / METRICS, "ab") as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise CheckpointError(f"Could not write {self.folder / METRICS}: {error}.") from None

    def _append(self, name: str, line: Mapping[str, float | None]) -> None:
        if self.folder is None:
            return
        data = f"{json.dumps(line)}\n".encode()
        try:
            with open(self.folder / name, "ab") as file:
                file.write(data)
        except OSError as error:
            raise CheckpointError(
                f"Could not write {self.folder / name} ({len(data):,} bytes more): {error}. The last checkpoint is "
                "intact: free space, and go on with --resume."
            ) from None
