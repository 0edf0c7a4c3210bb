"""Mean peak signal-to-noise ratio of single reconstructions."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="mean PSNR of the images", unit="dB", order=51, column="")
def mean_psnr(measurement: Measurement) -> float | None:
    """Returns the mean over images of their PSNRs, with peak 1; None for tables and series.

    Many papers state this mean. It is at least the PSNR of the mean error, and images without error count 200 dB.
    """
    if not measurement.of_images:
        return None
    return -10.0 * measurement.terms.squared_error.double().clamp(min=1e-20).log10().mean().item()
