"""Clustering accuracy against labels."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="clustering accuracy", percent=True, order=91)
def clustering_accuracy(measurement: Measurement) -> float | None:
    """Returns the accuracy of the prior's clusters; None for a prior without clusters, or without labels."""
    from vaezoo.evaluation.clustering import accuracy_of_clusters

    return accuracy_of_clusters(measurement.model, measurement.data, measurement.batch_size)
