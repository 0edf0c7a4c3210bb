"""Whether a loss or gradient was NaN or infinite, known to the device before it is known to Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vaezoo.trainer.averages import Averages

__all__ = ["Flag"]


class Flag:
    """A number on the device that is 0, and 1 from the first bad step on; with it, nothing learns any more.

    Fused optimizers make no update where it is 1 (`found_inf`, as for gradient scaling), and `guarding` does the same
    for what learns without a gradient. So it may be read long after, and the weights are still those of before.

    Args:
        device: where it is.
    """

    def __init__(self, device: torch.device) -> None:
        self.raised = torch.zeros((), device=device)
        self._idle = torch.zeros((), device=device)  # steps since it was raised, that one included

    def watch(self, value: Tensor) -> None:
        """Raises the flag where `value`, 0-dim, is not finite."""
        self.raised.copy_(torch.maximum(self.raised, (~torch.isfinite(value)).to(self.raised.dtype)))

    @contextmanager
    def guarding(self, model: nn.Module, averages: Averages | None) -> Iterator[None]:
        """Takes back what the block changed of buffers and averages, if the flag is raised; once per step."""
        kept = [*model.buffers(), *([] if averages is None else averages.values.values())]
        before = [tensor.clone() for tensor in kept]
        yield
        bad = self.raised > 0
        for tensor, old in zip(kept, before, strict=True):
            tensor.copy_(torch.where(bad, old, tensor))
        self._idle += self.raised

    def is_raised(self) -> bool:
        """Reads the flag; waits for the device."""
        return bool(self.raised.item())

    def steps_before(self, done: int) -> int:
        """Returns how many of `done` steps were taken before it was raised."""
        return done - int(self._idle.item())
