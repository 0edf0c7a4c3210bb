"""Importance-weighted evidence."""

from collections.abc import Mapping
from functools import partial

from vaezoo.evaluation.metric import Estimate, Measurement, Metric, text_of


def cell(values: Mapping[str, object]) -> str:
    """Returns the estimate and its K."""
    text = text_of(values.get("log_evidence"))
    return text if text == "–" else f"{text} ({values['samples']})"


@partial(
    Metric, label="log-evidence", unit="nats", detail="K = {samples}", order=40, always=True, listed=True,
    column="log-evidence (K)", cell=cell,
)  # fmt: skip
def log_evidence(measurement: Measurement) -> Estimate:
    """Returns the mean evidence with K samples; None if x has no density under the likelihood or K = 0."""
    evidences = measurement.evidences
    return Estimate(mean=None) if evidences is None else Estimate.of(evidences)
