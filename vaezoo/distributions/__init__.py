"""Distributions that torch lacks, or whose torch version is too slow for training, and their KL divergences."""

from vaezoo.distributions.categorical import OneHotCategoricals, gumbel_like, one_hot_like
from vaezoo.distributions.flow import FlowDistribution, FlowPosterior
from vaezoo.distributions.full_covariance import CholeskyNormal
from vaezoo.distributions.hamiltonian import HamiltonianPosterior
from vaezoo.distributions.labelled import LabelledPosterior
from vaezoo.distributions.mixture import Mixture, log_prob_of_each
from vaezoo.distributions.point import ContinuousDelta
from vaezoo.distributions.product import ProductDistribution
from vaezoo.distributions.von_mises_fisher import UniformSphere, VonMisesFisher

__all__ = [
    "CholeskyNormal",
    "ContinuousDelta",
    "FlowDistribution",
    "FlowPosterior",
    "HamiltonianPosterior",
    "LabelledPosterior",
    "Mixture",
    "OneHotCategoricals",
    "ProductDistribution",
    "UniformSphere",
    "VonMisesFisher",
    "gumbel_like",
    "log_prob_of_each",
    "one_hot_like",
]
