"""Trackers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from vaezoo.errors import UnknownNameError
from vaezoo.trainer.trackers.bar import Bar
from vaezoo.trainer.trackers.hook import Tracker
from vaezoo.trainer.trackers.services import TensorBoard, Trackio, WandB

__all__ = ["NAMES", "chosen_trackers"]

_MAKERS: Final[dict[str, Callable[[], Tracker]]] = {
    "bar": Bar,
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WandB,
}

NAMES: Final = tuple(_MAKERS)
"""Every tracker that has a name."""


def chosen_trackers(trackers: Iterable[str | Tracker] | None) -> list[Tracker]:
    """Returns the trackers of names, and objects as they are; a progress bar for None.

    Raises:
        UnknownNameError: there is no tracker of a name.
        MissingExtraError: the package of one is not installed.
    """
    asked = ["bar"] if trackers is None else [trackers] if isinstance(trackers, str) else list(trackers)
    for each in asked:
        if isinstance(each, str) and each not in _MAKERS:
            raise UnknownNameError("tracker", each, NAMES)
    return [_MAKERS[each]() if isinstance(each, str) else each for each in asked]
