"""Priors p(z|c): modules whose `forward(c)` returns a distribution over z."""

from vaezoo.priors.labelled import LabelledPrior
from vaezoo.priors.sphere import UniformSpherePrior

__all__ = ["LabelledPrior", "UniformSpherePrior"]
