"""Distributions that torch lacks, or whose torch version is too slow for training, and their KL divergences."""

from vaezoo.distributions.autoregressive import AutoregressiveBernoulliPixels, preceding
from vaezoo.distributions.categorical import OneHotCategoricals, gumbel_like, one_hot_like
from vaezoo.distributions.flow import FlowDistribution, FlowPosterior
from vaezoo.distributions.full_covariance import CholeskyNormal
from vaezoo.distributions.hamiltonian import HamiltonianPosterior
from vaezoo.distributions.joint_sampling import LOG_SCALE_LIMIT, LOG_TWO_PI, JointlyDrawn, sum_event
from vaezoo.distributions.labeled import LabeledPosterior, condition_on_labels
from vaezoo.distributions.laplace import DiagonalLaplace
from vaezoo.distributions.mixed import MixedRows
from vaezoo.distributions.mixture import Mixture, log_prob_of_each
from vaezoo.distributions.normal import DiagonalNormal, StandardNormal, kl_normal_normal, normal_from
from vaezoo.distributions.observed import ObservedElements
from vaezoo.distributions.pixel_mixture import CategoricalPixels, LogisticMixturePixels
from vaezoo.distributions.pixels import BernoulliPixels, ContinuousBernoulliPixels, DiscretizedLogisticPixels
from vaezoo.distributions.point import ContinuousDelta, Delta
from vaezoo.distributions.product import ProductDistribution
from vaezoo.distributions.von_mises_fisher import UniformSphere, VonMisesFisher

__all__ = [
    "LOG_SCALE_LIMIT",
    "LOG_TWO_PI",
    "AutoregressiveBernoulliPixels",
    "BernoulliPixels",
    "CategoricalPixels",
    "CholeskyNormal",
    "ContinuousBernoulliPixels",
    "ContinuousDelta",
    "Delta",
    "DiagonalLaplace",
    "DiagonalNormal",
    "DiscretizedLogisticPixels",
    "FlowDistribution",
    "FlowPosterior",
    "HamiltonianPosterior",
    "JointlyDrawn",
    "LabeledPosterior",
    "LogisticMixturePixels",
    "MixedRows",
    "Mixture",
    "ObservedElements",
    "OneHotCategoricals",
    "ProductDistribution",
    "StandardNormal",
    "UniformSphere",
    "VonMisesFisher",
    "condition_on_labels",
    "gumbel_like",
    "kl_normal_normal",
    "log_prob_of_each",
    "normal_from",
    "one_hot_like",
    "preceding",
    "sum_event",
]
