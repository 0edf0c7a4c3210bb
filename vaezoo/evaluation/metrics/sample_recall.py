"""Recall of samples."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="recall of samples", digits=3, order=94, column="", costly=True)
def sample_recall(measurement: Measurement) -> float | None:
    """Returns the share of images near a sample; see `sample_quality`. None without images."""
    found = measurement.neighborhoods
    return None if found is None else found.recall
