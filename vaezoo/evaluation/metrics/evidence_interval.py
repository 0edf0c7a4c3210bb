"""Interval of the evidence."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="log-evidence, 95 % interval", unit="nats", order=41, column="", several=True, costly=True)
def evidence_interval(measurement: Measurement) -> tuple[float, ...] | None:
    """Returns both ends of the bootstrap interval of the mean evidence; None without one. See `bootstrap_interval`."""
    from vaezoo.evaluation.bootstrap import bootstrap_interval

    evidences = measurement.evidences
    if evidences is None or len(evidences) < 2:
        return None
    return bootstrap_interval(evidences, seed=measurement.seed)
