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
    """The distortion of x given an encoded corrupted copy; in eval mode x itself is encoded.

    Args:
        corruption: "masking" sets elements to 0, "gaussian" adds noise.
        level: the probability of masking, or the standard deviation of the noise.
    """

    def __init__(self, corruption: Corruption, level: float) -> None:
        super().__init__()
        self.corruption, self.level = corruption, level

    def infer(self, model: Model, x: Tensor, c: Tensor | None) -> Inference:
        """Returns the inference of the corrupted x, with x as the data."""
        return replace(model.infer(self.corrupt(x), c), x=x) if self.training else model.infer(x, c)

    def corrupt(self, x: Tensor) -> Tensor:
        """Returns a corrupted copy of x."""
        if self.corruption == "masking":
            return x * (torch.rand_like(x) >= self.level)
        return x + self.level * torch.randn_like(x)
