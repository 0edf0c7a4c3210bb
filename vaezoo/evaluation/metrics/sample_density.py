"""Density of samples."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="density of samples", digits=3, order=95, column="", costly=True)
def sample_density(measurement: Measurement) -> float | None:
    """Returns how many balls of images contain a sample, over k; see `sample_quality`. None without images."""
    found = measurement.neighborhoods
    return None if found is None else found.density
