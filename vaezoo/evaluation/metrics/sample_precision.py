"""Precision of samples."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="precision of samples", digits=3, order=93, column="", costly=True)
def sample_precision(measurement: Measurement) -> float | None:
    """Returns the share of samples near an image; see `sample_quality`. None without images."""
    found = measurement.neighborhoods
    return None if found is None else found.precision
