"""Number of parameters."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="parameters", order=80, always=True, listed=True)
def parameters(measurement: Measurement) -> int:
    """Returns the number of parameters of the model."""
    return sum(parameter.numel() for parameter in measurement.model.parameters())
