"""Rate, KL(q(z given x), p(z))."""

from functools import partial

from vaezoo.evaluation.metric import Estimate, Measurement, Metric


@partial(Metric, label="rate", unit="nats", order=30, always=True)
def rate(measurement: Measurement) -> Estimate:
    """Returns the mean rate."""
    return Estimate.of(measurement.terms.rate)
