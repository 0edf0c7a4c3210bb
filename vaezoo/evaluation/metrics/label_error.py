"""Classification error."""

from functools import partial

from vaezoo.evaluation.measurement import Measurement
from vaezoo.evaluation.metric import Metric


@partial(Metric, label="wrong labels", percent=True, order=90)
def label_error(measurement: Measurement) -> float | None:
    """Returns the share of wrong labels; None for a model that does not classify, or without labels."""
    from vaezoo.evaluation import labels

    return labels.label_error(measurement.model, measurement.data)
