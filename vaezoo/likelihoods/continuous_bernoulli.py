"""Continuous-Bernoulli pixels."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions.pixels import ContinuousBernoulliPixels
from vaezoo.likelihoods import Likelihood, within_unit


class ContinuousBernoulli(Likelihood):
    """Independent continuous Bernoullis, a density on [0, 1].

    Loaiza-Ganem and Cunningham, 2019, https://arxiv.org/abs/1907.06845: adds the normalizer that the cross-entropy on
    gray pixels lacks. Densities may exceed 1, so that nats are not comparable with a Bernoulli's.
    """

    domain = support = "values in [0, 1]"

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for logits (..., 1, *shape)."""
        return ContinuousBernoulliPixels(raw.squeeze(-1 - len(self.shape)), len(self.shape))

    def accepts(self, x: Tensor) -> Tensor:
        """Returns for each example (B,) whether all its values lie in [0, 1]."""
        return within_unit(x)
