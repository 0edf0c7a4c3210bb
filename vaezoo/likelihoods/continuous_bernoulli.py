"""Continuous-Bernoulli pixels."""

from torch import Tensor
from torch.distributions import Distribution

from vaezoo.distributions import ContinuousBernoulliPixels
from vaezoo.likelihoods import UnitLikelihood


class ContinuousBernoulli(UnitLikelihood):
    """Independent continuous Bernoullis, a density on [0, 1].

    Loaiza-Ganem and Cunningham, 2019, https://arxiv.org/abs/1907.06845: adds the normalizer that the cross-entropy on
    gray pixels lacks. Densities may exceed 1, so that nats are not comparable with a Bernoulli's.
    """

    def forward(self, raw: Tensor) -> Distribution:
        """Returns p(x|z) for logits (..., 1, *shape)."""
        return ContinuousBernoulliPixels(raw.squeeze(-1 - len(self.shape)), len(self.shape))
