"""Channels of latents on a grid that carry nothing."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="dead channels", order=61, column="")
def dead_channels(measurement: Measurement) -> int | None:
    """Returns the number of channels without an active latent at any position; None for latents without a grid."""
    from vaezoo.core import ACTIVE_VARIANCE, as_part

    _, variances = measurement.encoded
    latent, encoder = measurement.model.latent or (), as_part(measurement.model.encoder)
    if variances is None or len(latent) < 2 or encoder.index_shape is not None:
        return None
    return int((variances.view(latent[0], -1) <= ACTIVE_VARIANCE).all(1).sum())
