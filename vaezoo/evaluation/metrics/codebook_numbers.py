"""Size of codebooks that are moving averages and no parameters."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="numbers in codebooks", order=81, column="")
def codebook_numbers(measurement: Measurement) -> int | None:
    """Returns the number of elements of codebooks beside the parameters; None for a model without such codebooks."""
    from vaezoo.core import description

    return description.codebook_numbers(measurement.model) or None
