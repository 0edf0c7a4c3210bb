"""Bits per dimension."""

import math
from functools import partial

from vaezoo.evaluation.metric import Estimate, Measurement, Metric


@partial(Metric, label="bits per dimension", unit="bits", digits=3, order=15, column="bits/dim")
def bits_per_dimension(measurement: Measurement) -> Estimate | None:
    """Returns minus the mean bound by dimension of x and ln 2; None unless the likelihood is a probability mass."""
    from vaezoo.evaluation.validity import measure_of

    bound = measurement.terms.bound
    if measure_of(measurement) != "mass" or not bool(bound.isfinite().all()):
        return None
    size = math.prod(measurement.data.shape)
    return Estimate.of(-bound / (size * math.log(2)))
