"""Error of the quantization."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="quantization error, of the variance", percent=True, digits=1, order=74, column="")
def quantization_error(measurement: Measurement) -> float | None:
    """Returns the share of the variance of encoder outputs that their codes leave; None for a model without both."""
    from vaezoo.evaluation import codebooks

    if measurement.encoded[0] is None:
        return None
    return codebooks.quantization_error(measurement.model, measurement.data, measurement.batch_size)
