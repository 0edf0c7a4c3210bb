"""The ELBO."""

from functools import partial

from vaezoo.evaluation.metric import Estimate, Measurement, Metric


@partial(Metric, label="bound", unit="nats", order=10, always=True, listed=True)
def bound(measurement: Measurement) -> Estimate:
    """Returns the mean bound; None if x has no density under the likelihood."""
    return Estimate.of(measurement.terms.bound)
