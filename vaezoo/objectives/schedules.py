"""Weights as functions of the step."""

import math

import torch
from torch import Tensor, nn


class Schedule(nn.Module):
    """A weight as a function of the step, a 0-dim tensor; None is the end. A subclass overrides the constant."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = float(value)

    def forward(self, step: Tensor | None) -> Tensor | float:
        """Returns the weight at `step`."""
        return self.value


class Warmup(Schedule):
    """A linear rise from 0 to `value` over `steps` (Bowman et al., 2016, https://arxiv.org/abs/1511.06349).

    Args:
        value: the final weight.
        steps: number of steps of the rise to `value`.
        limit: where the rise ends earlier, if it is below `value`.
    """

    def __init__(self, value: float, steps: int, limit: float = math.inf) -> None:
        super().__init__(min(value, limit))
        self.slope, self.steps = float(value), steps

    def forward(self, step: Tensor | None) -> Tensor | float:
        """Returns value · min(1, step / steps), at most the limit."""
        return self.value if step is None else (self.slope * (step / self.steps).clamp(max=1.0)).clamp(max=self.value)


class Cyclical(Schedule):
    """Cycles of `steps` each: a linear rise, then `value` (Fu et al., 2019, https://arxiv.org/abs/1903.10145)."""

    def __init__(self, value: float, steps: int, cycles: int) -> None:
        super().__init__(value)
        self.steps, self.cycles = steps, cycles

    def forward(self, step: Tensor | None) -> Tensor | float:
        """Returns the weight, which is `value` after the last cycle."""
        if step is None:
            return self.value
        position = torch.where(step < self.steps * self.cycles, (step % self.steps) / self.steps, 1.0)
        return self.value * (2.0 * position).clamp(max=1.0)


class Cooling(Schedule):
    r"""An exponential decay, $\tau = \max(\tau_{end}, \tau_0 e^{-rt})$."""

    def __init__(self, start: float, end: float, rate: float) -> None:
        super().__init__(end)
        self.start, self.rate = start, rate

    def forward(self, step: Tensor | None) -> Tensor | float:
        """Returns the temperature at `step`."""
        return self.value if step is None else (self.start * (-self.rate * step).exp()).clamp(min=self.value)
