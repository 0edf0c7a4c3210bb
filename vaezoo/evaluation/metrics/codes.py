"""Number of codes."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="codes", order=71, column="")
def codes(measurement: Measurement) -> int | None:
    """Returns the number of codes of all levels; None for a model without codes."""
    from vaezoo.evaluation import codebooks
    from vaezoo.quantization import CodeSource

    indices, encoder = measurement.encoded[0], measurement.model.encoder
    if indices is None or not isinstance(encoder, CodeSource):
        return None
    return encoder.codes * len(codebooks.levels_of(measurement.model, indices))
