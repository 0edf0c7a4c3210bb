"""Perplexity of codes."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="perplexity of the codes", digits=0, order=70, always=True, column="")
def perplexity(measurement: Measurement) -> float | None:
    """Returns the perplexity, the mean over levels (`sections` of the encoder); None for a model without codes."""
    from vaezoo.core import as_part
    from vaezoo.evaluation import latents

    if (codes := measurement.encoded[0]) is None:
        return None
    rows = codes.flatten(1) if codes.dim() > 1 else codes.unsqueeze(1)
    levels = rows.split(as_part(measurement.model.encoder).sections or (rows.shape[1],), 1)
    return sum(map(latents.perplexity, levels)) / len(levels)
