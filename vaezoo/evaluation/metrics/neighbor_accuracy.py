"""Accuracy of a vote of the 5 nearest latents."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="5 nearest latents, accuracy", percent=True, order=98, column="", costly=True)
def neighbor_accuracy(measurement: Measurement) -> float | None:
    """Returns the accuracy of a vote of the 5 nearest latents; see `probe_accuracy`. None without labels."""
    found = measurement.probes
    return None if found is None else found.neighbors
