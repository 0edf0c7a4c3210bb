"""Accuracy of a linear classifier of the latents."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="linear classifier of latents, accuracy", percent=True, order=97, column="", costly=True)
def linear_accuracy(measurement: Measurement) -> float | None:
    """Returns the accuracy of a linear classifier of the latents; see `probe_accuracy`. None without labels."""
    found = measurement.probes
    return None if found is None else found.linear
