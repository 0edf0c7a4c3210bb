"""Bernoulli pixels."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import BernoulliPixels
from vaezoo.likelihoods import UnitLikelihood


class Bernoulli(UnitLikelihood):
    """Independent Bernoulli pixels from logits, for data in {0, 1}.

    Gray values in [0, 1] may be trained on, but the cross-entropy is then a loss, not a likelihood: no bound is
    reported for them.
    """

    mass = True
    support = "values that are 0 or 1 (binarize gray pixels first)"
    remedy = (
        'binarize gray images (data.binarize = "dynamic"), or choose a likelihood for colors and shades: '
        "discretized-logistic for 8-bit pixels, gaussian for others (architecture.likelihood)"
    )

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for logits (..., 1, *shape)."""
        return BernoulliPixels(raw.squeeze(-1 - len(self.shape)), len(self.shape))

    def contains(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values are 0 or 1."""
        return ((x == 0) | (x == 1)).flatten(1).all(1)

    def initial_raw(self, mean: Tensor) -> Tensor | None:
        """Returns the logits (1, *shape) of the data's mean, kept within ±5."""
        return torch.logit(mean.clamp(0.0, 1.0), eps=1e-6).clamp(-5.0, 5.0).unsqueeze(0)
