"""Perceptual path length of interpolations."""

from functools import partial

from vaezoo.evaluation.metric import Estimate, Measurement, Metric


@partial(Metric, label="path length", digits=1, order=99, column="", costly=True)
def path_length(measurement: Measurement) -> Estimate | None:
    """Returns the mean path length of interpolations; see `path_lengths`. None for codes, or without images."""
    from vaezoo.evaluation.smoothness import lengths_of

    found = lengths_of(measurement.model, measurement.data, measurement.seed)
    return None if found is None else Estimate.of(found)
