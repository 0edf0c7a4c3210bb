"""Error of reconstructions of series, relative to their deviation."""

import math
from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="RMSE / deviation", digits=3, order=52, column="")
def relative_error(measurement: Measurement) -> float | None:
    """Returns the root-mean-square error of reconstructions over observed values of series; None for other data.

    It is in units of the standard deviation of each channel of the training data: 1 for a constant reconstruction.
    """
    from vaezoo.data import SeriesLayout

    if not isinstance(measurement.data.layout, SeriesLayout):
        return None
    count = measurement.terms.observed.double()
    return math.sqrt(float((measurement.terms.squared_error.double() * count).sum() / count.sum()))
