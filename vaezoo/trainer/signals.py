"""Ctrl-C and SIGTERM end a run after a checkpoint, SIGUSR1 only has one written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["StopRequest"]

ENDING = (signal.SIGINT, signal.SIGTERM)
SAVING = getattr(signal, "SIGUSR1", None)  # Windows has none


class StopRequest:
    """Lets Ctrl-C and SIGTERM end the step first, a second one end at once, and SIGUSR1 ask for a checkpoint."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._wants_checkpoint = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catches the signals inside the block, and puts the caller's handlers back.

        Elsewhere than in the main thread, where Python delivers no signals, it does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.received, self._wants_checkpoint = None, False
        before = {number: signal.signal(number, self._receive) for number in ENDING}
        if SAVING is not None:
            before[SAVING] = signal.signal(SAVING, self._ask_for_checkpoint)
        try:
            yield
        finally:
            for number, handler in before.items():
                # None: it was not set from Python, and cannot be put back from there.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)

    def _ask_for_checkpoint(self, number: int, frame: FrameType | None) -> None:
        self._wants_checkpoint = True

    def take_checkpoint_request(self) -> bool:
        """Says whether a checkpoint was asked for since the last call."""
        wanted, self._wants_checkpoint = self._wants_checkpoint, False
        return wanted
