"""Signals: Ctrl-C and SIGTERM end a run after a checkpoint, SIGUSR1 only writes a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM)
SAVING = getattr(signal, "SIGUSR1", None)  # Windows has none


class StopRequest:
    """Records Ctrl-C, SIGTERM and SIGUSR1 until the step has ended; a second Ctrl-C or SIGTERM ends at once."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._checkpoint_requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals inside the block, and then restores the caller's handlers.

        Outside the main thread, where Python delivers no signals, it does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.received, self._checkpoint_requested = None, False
        before = {number: signal.signal(number, self._receive) for number in ENDING}
        if SAVING is not None:
            before[SAVING] = signal.signal(SAVING, self._request_checkpoint)
        try:
            yield
        finally:
            for number, handler in before.items():
                # None: the handler was not set from Python and cannot be restored.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)

    def _request_checkpoint(self, number: int, frame: FrameType | None) -> None:
        self._checkpoint_requested = True

    def take_checkpoint_request(self) -> bool:
        """Returns whether a checkpoint was requested since the last call."""
        requested, self._checkpoint_requested = self._checkpoint_requested, False
        return requested
