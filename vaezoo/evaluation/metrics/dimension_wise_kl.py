"""KL divergence of each latent's aggregate posterior from the prior, summed."""

from functools import partial

from vaezoo.evaluation.metric import Estimate, Measurement, Metric


@partial(Metric, label="dimension-wise KL", unit="nats", order=34, column="", costly=True)
def dimension_wise_kl(measurement: Measurement) -> Estimate | None:
    """Returns E Σ log q(z_j) - log p(z); see `rate_decomposition`. None without diagonal normals."""
    found = measurement.decomposition
    return None if found is None else found.dimension_wise_kl
