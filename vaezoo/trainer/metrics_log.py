"""Metrics of a run: in memory, in `metrics.jsonl` and sent to trackers.

Times are only in `timing.jsonl`, so that a resumed run has the same metrics as an uninterrupted one.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vaezoo.errors import CheckpointError
from vaezoo.storage.files import write_file
from vaezoo.trainer.tracking import Tracker, Trackers

METRICS, TIMING = "metrics.jsonl", "timing.jsonl"


class MetricsLog:
    """The metrics of one run, line by line; without a folder only in memory."""

    def __init__(self, folder: Path | None, trackers: Sequence[Tracker]) -> None:
        self.folder, self.trackers = folder, Trackers(trackers)
        self.history: list[dict[str, float | None]] = []

    def begin(self, lines: int = 0) -> bool:
        """Keeps the first `lines` lines of the file and drops the rest; returns whether it had that many.

        Raises:
            CheckpointError: the folder cannot be written, or a line is not JSON.
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
            raise CheckpointError(f"Could not continue {path}: {error}. Choose another folder.") from None
        write_file(path, "".join(f"{line}\n" for line in kept).encode())
        return len(kept) == lines

    def record(self, metrics: Mapping[str, float]) -> None:
        """Adds a line, with None for NaN and infinite figures."""
        line = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        self.history.append(line)
        self._append(METRICS, line)

    def notify(self, done: int, metrics: Mapping[str, float], images_per_second: float | None = None) -> None:
        """Sends finite figures, measured up to step `done` of the stage, to the trackers."""
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        if images_per_second is not None:
            self._append(TIMING, {"step": metrics["step"], "images_per_second": images_per_second})
            finite["images_per_second"] = images_per_second
        self.trackers.notify("log", done, finite)

    def flush(self) -> None:
        """Flushes the lines to disk, so that no checkpoint counts more lines than the file has."""
        self._append(METRICS, None)

    def _append(self, name: str, line: Mapping[str, float | None] | None) -> None:
        """Adds a line to a file; None flushes the file to disk."""
        if self.folder is None:
            return
        data = b"" if line is None else f"{json.dumps(line)}\n".encode()
        try:
            with open(self.folder / name, "ab") as file:
                if line is None:
                    os.fsync(file.fileno())
                else:
                    file.write(data)
        except OSError as error:
            raise CheckpointError(
                f"Could not write {self.folder / name} ({len(data):,} bytes more): {error}. The last checkpoint is "
                "intact: free space, and continue with --resume."
            ) from None
