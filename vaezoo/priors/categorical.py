"""Uniform priors over categorical latents, alone or beside Gaussian ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import Part
from vaezoo.distributions import OneHotCategoricals, ProductDistribution
from vaezoo.distributions.normal import StandardNormal


class UniformCategoriesPrior(Part):
    """Independent uniform categories, for every context.

    Args:
        latent: the event shape of z, its last axis over the categories.
    """

    zeros: Tensor

    def __init__(self, latent: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(*latent), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        return OneHotCategoricals(self.zeros, self.zeros.dim())


class JointPrior(Part):
    """A standard normal over the first latents and uniform categories over the others, for every context.

    Args:
        size: number of Gaussian latents.
        categories: number of categories of each categorical latent.
    """

    zeros: Tensor

    def __init__(self, size: int, categories: Sequence[int]) -> None:
        super().__init__()
        self.sizes = [size, *categories]
        self.register_buffer("zeros", torch.zeros(sum(self.sizes)), persistent=False)

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        zeros, *logits = self.zeros.split(self.sizes)
        return ProductDistribution([StandardNormal(zeros, 1), *(OneHotCategoricals(each, 1) for each in logits)])
