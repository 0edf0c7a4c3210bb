"""Mutual information of data and latents under the aggregate posterior."""

from functools import partial

from vaezoo.evaluation.metric import Estimate, Measurement, Metric


@partial(Metric, label="mutual information of x and z (at most log N)", unit="nats", order=32, column="", costly=True)
def mutual_information(measurement: Measurement) -> Estimate | None:
    """Returns E log q(z given x) - log q(z); see `rate_decomposition`. None without diagonal normals."""
    found = measurement.decomposition
    return None if found is None else found.mutual_information
