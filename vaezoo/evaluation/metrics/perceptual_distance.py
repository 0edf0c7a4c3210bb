"""Perceptual distance of reconstructions."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="perceptual distance", digits=4, order=54, column="")
def perceptual_distance(measurement: Measurement) -> float | None:
    """Returns the mean perceptual distance (color64) over examples; None if they are no color images."""
    mean = measurement.terms.perceptual.double().mean().item()
    return None if mean != mean else mean
