"""Objectives: modules that are minimized. `forward(model, x, c, step)` returns an `ELBO`."""

from vaezoo.errors import warn
from vaezoo.objectives.adversarial import (
    AdversarialObjective,
    FeatureCritic,
    LatentAdversarialObjective,
    SimilarityObjective,
    TotalCorrelationObjective,
    critic_accuracy,
    critic_logit,
    critic_loss,
    players_of,
)
from vaezoo.objectives.constraints import TwoCapacitiesObjective
from vaezoo.objectives.importance import GradientEstimator, ImportanceObjective, log_mean_exp
from vaezoo.objectives.penalties.discrepancy import Kernel, MaximumMeanDiscrepancy, SlicedWassersteinDistance
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

_FORMER_NAMES = {
    "Game": "AdversarialObjective",
    "PriorGame": "LatentAdversarialObjective",
    "accuracy": "critic_accuracy",
    "logit": "critic_logit",
    "separation": "critic_loss",
}


def __getattr__(name: str) -> object:
    if (new := _FORMER_NAMES.get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn(f"{__name__}.{name} is deprecated and will be removed in 0.3. Use {__name__}.{new}.", DeprecationWarning)
    return globals()[new]
