"""Effective dimension of the codes in use."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="effective dimension of the codes in use", digits=1, order=73, column="")
def code_dimension(measurement: Measurement) -> float | None:
    """Returns the participation ratio of the codes in use, the mean over levels; None for a model without codes."""
    from vaezoo.evaluation import codebooks

    indices = measurement.encoded[0]
    return None if indices is None else codebooks.code_dimension(measurement.model, indices)
