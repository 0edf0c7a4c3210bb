"""Perplexity of codes."""

from functools import partial

from vaezoo.evaluation.metric import Measurement, Metric


@partial(Metric, label="perplexity of the codes", digits=0, order=70, always=True, column="")
def perplexity(measurement: Measurement) -> float | None:
    """Returns the perplexity, the mean over levels (`sections` of the encoder); None for a model without codes."""
    from vaezoo.evaluation import codebooks, latents

    if (codes := measurement.encoded[0]) is None:
        return None
    levels = codebooks.levels_of(measurement.model, codes)
    return sum(map(latents.perplexity, levels)) / len(levels)
