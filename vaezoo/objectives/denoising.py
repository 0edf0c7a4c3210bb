"""The objective of a denoising autoencoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from vaezoo.core import Inference, Model
from vaezoo.objectives.weighted import PenalizedObjective

Corruption = Literal["masking", "gaussian"]


class DenoisingObjective(PenalizedObjective):
    """Minimises the distortion of x from a corrupted copy; in eval mode from x itself."""

    def __init__(self, corruption: Corruption, level: float) -> None:
        super().__init__()
        self.corruption, self.level = corruption, level

    def infer(self, model: Model, x: Tensor, c: Tensor | None) -> Inference:
        """Returns the pass of the corrupted x, measured against x."""
        if not self.training:
            return model.infer(x, c)
        return replace(model.infer(self.corrupt(x), c), x=x)

    def corrupt(self, x: Tensor) -> Tensor:
        """Returns x with a share of its values at 0, or with noise added."""
        if self.corruption == "masking":
            return x * (torch.rand_like(x) >= self.level)
        return x + self.level * torch.randn_like(x)
