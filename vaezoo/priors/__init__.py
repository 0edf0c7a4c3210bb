"""Priors p(z|c): modules whose `forward(c)` returns a distribution over z."""

from vaezoo.priors.labeled import LabeledPrior
from vaezoo.priors.sphere import UniformSpherePrior

__all__ = ["LabeledPrior", "UniformSpherePrior"]
