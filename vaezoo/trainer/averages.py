"""Exponentially averaged weights."""

from __future__ import annotations

import torch
from torch import nn

EVERY = 10  # steps between two updates


class Averages:
    """Exponentially averaged parameters, updated every `EVERY` steps; buffers are not averaged.

    Args:
        model: the model whose parameters are averaged.
        decay: of the average at each step, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay**EVERY
        self.values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        self._pairs = [(self.values[name], parameter.detach()) for name, parameter in model.named_parameters()]

    def update(self, step: int) -> None:
        """Updates the averages after every `EVERY`th step; early updates use a larger weight (bias correction)."""
        if step % EVERY == 0:
            share = max(1.0 - self.decay, 1.0 / (1 + step // EVERY))
            for average, own in self._pairs:
                average.lerp_(own, share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the averages and the model's parameters, in place."""
        for average, own in self._pairs:
            before = average.clone()
            average.copy_(own)
            own.copy_(before)
