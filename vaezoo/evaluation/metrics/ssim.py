"""Structural similarity of reconstructions."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="SSIM", digits=3, order=52, column="")
def ssim(measurement: Measurement) -> float | None:
    """Returns the mean SSIM over examples; None if they are no images of at least 11 x 11 pixels."""
    mean = measurement.terms.similarity.double().mean().item()
    return None if mean != mean else mean
