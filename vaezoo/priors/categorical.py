"""Uniform priors over categorical latents or a class label, alone or beside Gaussian latents."""

from collections.abc import Sequence

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import OneHotCategoricals, ProductDistribution, StandardNormal, condition_on_labels
from vaezoo.priors.continuous import FixedPrior


class UniformCategoriesPrior(FixedPrior):
    """Independent uniform categories, the last axis of `latent`, for every context."""

    has_dependent_latents = True

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        return OneHotCategoricals(self.zeros, self.zeros.dim())


class JointPrior(FixedPrior):
    """A standard normal over the first latents and uniform categories over the others, for every context.

    Args:
        size: number of Gaussian latents.
        categories: number of categories of each categorical latent.
    """

    has_dependent_latents = True

    def __init__(self, size: int, categories: Sequence[int]) -> None:
        super().__init__([size + sum(categories)])
        self.sizes = [size, *categories]

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns the prior, with no batch dimension."""
        zeros, *logits = self.zeros.split(self.sizes)
        return ProductDistribution([StandardNormal(zeros, 1), *(OneHotCategoricals(each, 1) for each in logits)])


class LabeledPrior(JointPrior):
    """A standard normal z and a class y, which is given or uniform.

    Args:
        size: number of latents in z.
        classes: V.
    """

    def __init__(self, size: int, classes: int) -> None:
        super().__init__(size, [classes])

    def forward(self, c: Tensor | None = None) -> Distribution:
        """Returns p(z) p(y); labels `c` (B, V), whose rows are one-hot, or zeros if unknown, give it a batch (B,)."""
        z, y = self.zeros.split(self.sizes)
        if c is not None:
            z, y = z.expand(c.shape[0], -1), condition_on_labels(y.expand(c.shape[0], -1), c)
        return ProductDistribution([StandardNormal(z, 1), OneHotCategoricals(y, 1)])
