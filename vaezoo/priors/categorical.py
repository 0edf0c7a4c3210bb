"""Uniform priors over categorical latents, alone or beside Gaussian ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import OneHotCategoricals, ProductDistribution
from vaezoo.distributions.normal import StandardNormal
from vaezoo.priors.normal import FixedPrior


class UniformCategoriesPrior(FixedPrior):
    """Independent uniform categories, the last axis of `latent`, for every context."""

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        return OneHotCategoricals(self.zeros, self.zeros.dim())


class JointPrior(FixedPrior):
    """A standard normal over the first latents and uniform categories over the others, for every context.

    Args:
        size: number of Gaussian latents.
        categories: number of categories of each categorical latent.
    """

    def __init__(self, size: int, categories: Sequence[int]) -> None:
        super().__init__([size + sum(categories)])
        self.sizes = [size, *categories]

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        zeros, *logits = self.zeros.split(self.sizes)
        return ProductDistribution([StandardNormal(zeros, 1), *(OneHotCategoricals(each, 1) for each in logits)])
