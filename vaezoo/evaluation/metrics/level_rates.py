"""Rate of each level of a hierarchy."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="rate of each level, top first", unit="nats", order=31, column="", several=True)
def level_rates(measurement: Measurement) -> tuple[float, ...] | None:
    """Returns the mean rate of each level, the top one first; None for a model without levels."""
    from vaezoo.evaluation import decomposition

    rates = decomposition.level_rates(measurement.model, measurement.data, measurement.seed, measurement.batch_size)
    return None if rates is None else tuple(rates.double().mean(0).tolist())
