"""Active units (Burda et al., 2016, https://arxiv.org/abs/1509.00519, section 5.2)."""

from collections.abc import Mapping
from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric, text_of


def cell(values: Mapping[str, object]) -> str:
    """Returns active units and latents; the perplexity for a model of codes."""
    if values.get("active_units") is not None:
        return f"{values['active_units']}/{values['latents']}"
    return f"{text_of(perplexity, 0)} codes" if (perplexity := values.get("perplexity")) is not None else "–"


@partial(Metric, label="active units", order=60, always=True, listed=True, column="active", cell=cell)
def active_units(measurement: Measurement) -> int | None:
    """Returns the number of latents whose posterior mean has a variance above 0.01; None for a model of codes."""
    from vaezoo.core import ACTIVE_VARIANCE

    _, variances = measurement.encoded
    return None if variances is None else int((variances > ACTIVE_VARIANCE).sum())
