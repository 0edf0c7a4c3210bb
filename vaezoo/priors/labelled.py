"""The prior of a model with a class label beside the latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.distributions import OneHotCategoricals, ProductDistribution
from vaezoo.distributions.labelled import condition_on_labels
from vaezoo.distributions.normal import StandardNormal

__all__ = ["LabelledPrior"]


class LabelledPrior(Part):
    """A standard normal z, beside y: known where a label says so, else equally likely classes."""

    zeros: Tensor

    def __init__(self, size: int, classes: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("zeros", torch.zeros(size + classes), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns p(z) p(y), with a batch (B,) where there are label vectors `c` (B, V)."""
        z, y = self.zeros.split([self.size, len(self.zeros) - self.size])
        if c is not None:
            z, y = z.expand(len(c), -1), condition_on_labels(y.expand(len(c), -1), c)
        return ProductDistribution([StandardNormal(z, 1), OneHotCategoricals(y, 1)])
