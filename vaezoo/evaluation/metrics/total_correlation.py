"""Total correlation of the latents under the aggregate posterior."""

from functools import partial

from vaezoo.evaluation.metric import Estimate, Measurement, Metric


@partial(Metric, label="total correlation", unit="nats", order=33, column="", costly=True)
def total_correlation(measurement: Measurement) -> Estimate | None:
    """Returns E log q(z) - Σ log q(z_j); see `rate_decomposition`. None without diagonal normals."""
    found = measurement.decomposition
    return None if found is None else found.total_correlation
