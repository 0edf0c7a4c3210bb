"""Classification error."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="wrong labels", percent=True, order=90)
def label_error(measurement: Measurement) -> float | None:
    """Returns the share of wrong labels; None for a model that does not classify, or without labels."""
    from vaezoo.evaluation import classification

    return classification.label_error(measurement.model, measurement.data, batch_size=measurement.batch_size)
