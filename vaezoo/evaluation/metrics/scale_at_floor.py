"""Elements of x whose likelihood has the least possible scale."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="scale at its lower limit", percent=True, digits=1, order=92, column="")
def scale_at_floor(measurement: Measurement) -> float | None:
    """Returns the share of elements of x with a learned or optimal scale at its limit; None if there are none.

    It is measured on the reconstructions of the first batch of the set.
    """
    from vaezoo.core import as_part, center
    from vaezoo.evaluation.batches import batches
    from vaezoo.likelihoods import ScaledLikelihood

    model = measurement.model
    likelihood = as_part(model.decoder).likelihood
    least = likelihood.least_log_scale if isinstance(likelihood, ScaledLikelihood) else None
    if least is None:
        return None
    import torch

    with torch.no_grad():
        x, c = next(batches(model, measurement.data, measurement.batch_size))
        scales = model.decoder(center(model.encoder(x, c)), c).log_scale[~x.isnan()]
    return float((scales <= least + 1e-3).double().mean()) or None
