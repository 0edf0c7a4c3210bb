"""Whether figures are probabilities, densities or losses, and the reason for a missing bound or evidence."""

from vaezoo.core import as_part, has_density
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.metric import Measure, Measurement


def measure_of(measurement: Measurement) -> Measure:
    """Returns what the distortion is minus the logarithm of; "loss" if examples have no probability or density."""
    if not bool(measurement.terms.dense.all()):
        return "loss"
    likelihood = as_part(measurement.model.decoder).likelihood
    return "mass" if (has_discrete_support(measurement) if likelihood is None else likelihood.mass) else "density"


def has_discrete_support(measurement: Measurement) -> bool:
    """Returns whether p(x|z) of a decoder without a registered likelihood is a distribution over discrete values."""
    x, c = next(batches(measurement.model, measurement.data.subset(range(1))))
    try:
        support = measurement.model.infer(x, c).likelihood.support
    except NotImplementedError:
        return False
    return bool(getattr(support, "is_discrete", False))


def missing(measurement: Measurement) -> str:
    """Returns a sentence that states why there is no bound or no evidence; an empty string if there are both."""
    model, terms, total = measurement.model, measurement.terms, len(measurement.data)
    start = "No bound and no log-evidence:"
    if outside := int((terms.dense == 0).sum()):
        likelihood = as_part(model.decoder).likelihood
        return (
            f"{start} the {type(likelihood).__name__} likelihood gives no probability to {outside:,} of {total:,} "
            f"examples; expected {likelihood.support if likelihood else 'others'}. The distortion is only a loss."
        )
    x, c = next(batches(model, measurement.data.subset(range(1))))
    if not has_density(model.encoder(x, c)):
        return (
            f"{start} the posterior is a point mass, which has no density in a continuous space. Compare distortions."
        )
    if infinite := int((~terms.bound.isfinite()).sum()):
        return f"{start} the bound is not finite for {infinite:,} of {total:,} examples."
    return "" if measurement.samples else "No log-evidence: it was left out (samples = 0)."
