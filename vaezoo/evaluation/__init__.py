"""Figures of a model, as functions of it: evidence, latents, reconstructions; in nats unless a name says otherwise."""

from vaezoo.evaluation.clustering import cluster, clustering_accuracy
from vaezoo.evaluation.disentanglement import (
    Disentanglement,
    disentanglement,
    factor_vae_score,
    gaussian_total_correlation,
    mutual_information_gap,
    representation,
)
from vaezoo.evaluation.evidence import Estimate, evidence, paired_difference
from vaezoo.evaluation.frechet import RandomFeatures, frechet_distance, gaussian_frechet_distance
from vaezoo.evaluation.labels import label_error
from vaezoo.evaluation.latents import active_units, perplexity
from vaezoo.evaluation.report import Report, evaluate

__all__ = [
    "Disentanglement",
    "Estimate",
    "RandomFeatures",
    "Report",
    "active_units",
    "cluster",
    "clustering_accuracy",
    "disentanglement",
    "evaluate",
    "evidence",
    "factor_vae_score",
    "frechet_distance",
    "gaussian_frechet_distance",
    "gaussian_total_correlation",
    "label_error",
    "mutual_information_gap",
    "paired_difference",
    "perplexity",
    "representation",
]
