"""Coverage of samples."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="coverage of samples", digits=3, order=96, column="", costly=True)
def sample_coverage(measurement: Measurement) -> float | None:
    """Returns the share of images whose neighborhood contains a sample; see `sample_quality`. None without images."""
    found = measurement.neighborhoods
    return None if found is None else found.coverage
