"""Priors p(z|c): modules whose `forward(c)` returns a distribution over z."""

from vaezoo.priors.categorical import JointPrior, LabeledPrior, UniformCategoriesPrior
from vaezoo.priors.continuous import ConditionalNormalPrior, FlowPrior, StandardNormalPrior, UniformSpherePrior
from vaezoo.priors.mixture import GaussianMixturePrior, VampPrior

__all__ = [
    "ConditionalNormalPrior",
    "FlowPrior",
    "GaussianMixturePrior",
    "JointPrior",
    "LabeledPrior",
    "StandardNormalPrior",
    "UniformCategoriesPrior",
    "UniformSpherePrior",
    "VampPrior",
]
