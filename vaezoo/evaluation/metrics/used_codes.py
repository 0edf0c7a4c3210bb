"""Number of codes in use."""

from collections.abc import Mapping
from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric, text_of


def cell(values: Mapping[str, object]) -> str:
    """Returns codes in use and codes."""
    used, codes = values.get("used_codes"), values.get("codes")
    return "–" if used is None else f"{text_of(used)}/{text_of(codes)}"


@partial(Metric, label="codes in use", order=72, column="codes", cell=cell)
def used_codes(measurement: Measurement) -> int | None:
    """Returns how many codes of all levels occur in the whole set; None for a model without codes."""
    from vaezoo.evaluation import codebooks

    indices = measurement.encoded[0]
    return None if indices is None else codebooks.used_codes(measurement.model, indices)
