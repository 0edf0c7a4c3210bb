"""The prior of a model with a class label beside the latents."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import OneHotCategoricals, ProductDistribution
from vaezoo.distributions.labelled import condition_on_labels
from vaezoo.distributions.normal import StandardNormal
from vaezoo.priors.normal import FixedPrior


class LabeledPrior(FixedPrior):
    """A standard normal z and a class y, which is given or uniform.

    Args:
        size: number of latents in z.
        classes: V.
    """

    def __init__(self, size: int, classes: int) -> None:
        super().__init__([size + classes])
        self.size = size

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns p(z) p(y); labels `c` (B, V), whose rows are one-hot, or zeros if unknown, give it a batch (B,)."""
        z, y = self.zeros.split([self.size, len(self.zeros) - self.size])
        if c is not None:
            z, y = z.expand(len(c), -1), condition_on_labels(y.expand(len(c), -1), c)
        return ProductDistribution([StandardNormal(z, 1), OneHotCategoricals(y, 1)])
