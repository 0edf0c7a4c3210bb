"""Objectives: modules that are minimized. `forward(model, x, c, step)` returns an `ELBO`."""

from vaezoo.objectives.adversarial import (
    AdversarialObjective,
    FeatureCritic,
    LatentAdversarialObjective,
    SimilarityObjective,
    TotalCorrelationObjective,
    critic_accuracy,
    critic_logit,
    critic_loss,
)
from vaezoo.objectives.constraints import TwoCapacitiesObjective
from vaezoo.objectives.importance import GradientEstimator, ImportanceObjective, log_mean_exp
from vaezoo.objectives.patches import PatchAdversarialObjective
from vaezoo.objectives.penalties.discrepancy import Kernel, MaximumMeanDiscrepancy, SlicedWassersteinDistance
from vaezoo.objectives.players import players_of
from vaezoo.objectives.schedules import Cooling, Cyclical, Schedule, Warmup
from vaezoo.objectives.weighted import PenalizedObjective, Penalty, WeightedObjective

__all__ = [
    "AdversarialObjective",
    "Cooling",
    "Cyclical",
    "FeatureCritic",
    "GradientEstimator",
    "ImportanceObjective",
    "Kernel",
    "LatentAdversarialObjective",
    "MaximumMeanDiscrepancy",
    "PatchAdversarialObjective",
    "PenalizedObjective",
    "Penalty",
    "Schedule",
    "SimilarityObjective",
    "SlicedWassersteinDistance",
    "TotalCorrelationObjective",
    "TwoCapacitiesObjective",
    "Warmup",
    "WeightedObjective",
    "critic_accuracy",
    "critic_logit",
    "critic_loss",
    "log_mean_exp",
    "players_of",
]
