"""Exponentially averaged weights."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["EVERY", "Averages"]

EVERY = 10  # steps between two updates


class Averages:
    """Exponentially averaged parameters, updated every `EVERY` steps; buffers are the model's own.

    Args:
        model: whose parameters are averaged.
        decay: of the average at each step, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay**EVERY
        self.values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        self._own = [parameter.detach() for parameter in model.parameters()]
        self._averaged = list(self.values.values())

    def update(self, step: int) -> None:
        """Moves the averages after every `EVERY`th step; early ones forget faster, lest the start linger."""
        if step % EVERY == 0:
            share = max(1.0 - self.decay, 1.0 / (1 + step // EVERY))
            torch._foreach_lerp_(self._averaged, self._own, share)

    def swap(self) -> None:
        """Exchanges the averages and the model's parameters, in place."""
        before = [value.clone() for value in self._averaged]
        torch._foreach_copy_(self._averaged, self._own)
        torch._foreach_copy_(self._own, before)
