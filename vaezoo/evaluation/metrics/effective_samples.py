"""Effective sample size of the importance weights of the evidence."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="effective samples", percent=True, digits=1, order=45, detail="of K = {samples}", column="ESS")
def effective_samples(measurement: Measurement) -> float | None:
    r"""Returns the mean over examples of $(\sum w)^2 / (K \sum w^2)$, from 1/K to 1; None without an evidence.

    Near 1/K a single draw dominates the evidence of an example, which then still rises with K.
    """
    sizes = measurement.effective_sizes
    return None if sizes is None else float(sizes.double().mean()) / measurement.samples
