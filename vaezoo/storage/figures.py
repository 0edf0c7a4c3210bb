"""`metrics.json`: its schema, and the digest of the weights that its figures were measured on."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from vaezoo.core import public_name
from vaezoo.errors import ConfigError, CorruptWeightsError, shorten
from vaezoo.evaluation.metric import all_metrics
from vaezoo.storage.config import Count, Hash, check_texts
from vaezoo.storage.json_files import LARGEST_JSON, canonical, parse_json

METRICS = "metrics.json"
MEASURED_ON = "weights"  # the key of the digest


class EstimateFacts(msgspec.Struct, forbid_unknown_fields=True):
    """A mean and its standard error."""

    mean: float | None
    error: float | None = None


class Facts(msgspec.Struct):
    """The fields of `metrics.json` that are not metrics; all others are those of registered metrics and plug-ins."""

    data: str | None = None
    split: str | None = None
    binarization: str | None = None
    binarization_seed: Count | None = None
    examples: Count | None = None
    samples: Count | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    latents: Count | None = None
    subset_seed: Count | None = None
    weights: Hash | None = None


def check_figures(figures: object) -> dict[str, object]:
    """Returns a table of figures after its types were validated, with the public name of its data.

    Raises:
        ConfigError: a field of another type, a number that is not finite, or text that is not printable.
    """
    if not isinstance(figures, Mapping):
        raise ConfigError(f"Got figures of type {type(figures).__name__}; expected a table, as `Report.as_dict()` is.")
    found = dict(figures)
    try:
        canonical(found)  # refuses NaN, infinity and what is no JSON
        check_texts(found)
        msgspec.convert(found, Facts, strict=True)
        known = all_metrics()
        for key in known.keys() & found.keys():
            kind = list[float] | None if known[key].several else float | EstimateFacts | None
            msgspec.convert({key: found[key]}, dict[str, kind], strict=True)  # type: ignore[valid-type]  # of each key
    except (msgspec.ValidationError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"These figures cannot be stored: {str(error)[:300]}. Pass `evaluate(…).as_dict()`."
        ) from None
    return {**found, "data": public_name(found["data"])} if found.get("data") else found


def figures_of(figures: Mapping[str, object], weights: str) -> dict[str, object]:
    """Returns valid figures with the digest of their weights, which is added if it is missing.

    Raises:
        ConfigError: the figures are malformed or were measured on other weights.
    """
    found = check_figures(figures)
    known = found.get(MEASURED_ON)
    if known not in (None, weights):
        raise ConfigError(
            f"These figures were measured on other weights (digest {str(known)[:12]}…) than those of this model "
            f"({weights[:12]}…). Evaluate this model, after rounding if it is stored in half precision."
        )
    return {**found, MEASURED_ON: weights}


def parse_figures(data: bytes, name: str) -> dict[str, object]:
    """Returns the content of a `metrics.json`; raises CorruptWeightsError if it is malformed."""
    try:
        return check_figures(parse_json(data, name, LARGEST_JSON))
    except ConfigError as error:
        raise CorruptWeightsError(f"{shorten(name)} is malformed: {error} Measure the model again.") from None
