"""Objectives: what is minimized. `forward(model, x, c, step)` returns an `ELBO`."""

from vaezoo.objectives.adversarial import FeatureCritic, Game, PriorGame, accuracy, logit, players_of, separation
from vaezoo.objectives.constraints import TwoCapacities
from vaezoo.objectives.importance import Gradient, ImportanceObjective, detach_parameters, log_mean_exp
from vaezoo.objectives.penalties.aggregate import covariance, factorised, from_identity, log_aggregate
from vaezoo.objectives.penalties.discrepancy import (
    KERNELS,
    Kernel,
    MeanDiscrepancy,
    SlicedDistance,
    mean_discrepancy,
    prior_draws,
    prior_sample,
    sliced,
)
from vaezoo.objectives.penalties.regularizers import half_square
from vaezoo.objectives.schedules import Cooling, Cyclical, Schedule, Warmup
from vaezoo.objectives.weighted import PenalizedObjective, Penalty, WeightedObjective

__all__ = [
    "KERNELS",
    "Cooling",
    "Cyclical",
    "FeatureCritic",
    "Game",
    "Gradient",
    "ImportanceObjective",
    "Kernel",
    "MeanDiscrepancy",
    "PenalizedObjective",
    "Penalty",
    "PriorGame",
    "Schedule",
    "SlicedDistance",
    "TwoCapacities",
    "Warmup",
    "WeightedObjective",
    "accuracy",
    "covariance",
    "detach_parameters",
    "factorised",
    "from_identity",
    "half_square",
    "log_aggregate",
    "log_mean_exp",
    "logit",
    "mean_discrepancy",
    "players_of",
    "prior_draws",
    "prior_sample",
    "separation",
    "sliced",
]
