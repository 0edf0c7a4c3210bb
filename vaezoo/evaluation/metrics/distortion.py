"""Distortion, the expected negative log-likelihood; a loss if x has no density under the likelihood."""

from functools import partial

from vaezoo.evaluation.metric import Estimate, Measurement, Metric


@partial(Metric, label="distortion", unit="nats", order=20, always=True)
def distortion(measurement: Measurement) -> Estimate:
    """Returns the mean distortion."""
    return Estimate.of(measurement.terms.distortion)
