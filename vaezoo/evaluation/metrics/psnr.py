"""Peak signal-to-noise ratio of reconstructions."""

import math
from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="PSNR", unit="dB", order=50, always=True, listed=True)
def psnr(measurement: Measurement) -> float | None:
    """Returns the PSNR of the mean squared error over the whole set, with peak 1; None for tables and series."""
    if not measurement.of_images:
        return None
    return -10.0 * math.log10(max(measurement.terms.squared_error.double().mean().item(), 1e-20))
