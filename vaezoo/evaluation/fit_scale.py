"""`fit_scale`: the scale of a likelihood that fits data best, such as one that was added to foreign weights."""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

from vaezoo.core import VAE, check_model, evaluating
from vaezoo.errors import ConfigError, SupportError, shorten
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.likelihoods import ScaledLikelihood


def fit_scale(
    model: VAE, data: object, *, split: str = "train", limit: int | None = None, batch_size: int | None = None
) -> VAE:
    r"""Returns the model with the fixed scale of its likelihood that gives reconstructions of data the highest density.

    $$b = \tfrac1N \sum |x - \hat x| \quad \text{(laplace)}, \qquad
    \sigma^2 = \tfrac1N \sum (x - \hat x)^2 \quad \text{(gaussian)}$$

    over all values x of the data and their reconstructions. Networks, and so reconstructions and latents, are those of
    `model`, which is unchanged; distortions and bounds are others.

    Args:
        model: with a likelihood of a fixed scale, as `vaezoo.load` adds to an autoencoder of diffusers.
        data: a name, or anything else that `vaezoo.data.as_dataset` takes.
        split: split of a named data set.
        limit: use at most so many examples, chosen with a fixed seed.
        batch_size: number of examples at a time; None for 500, or fewer where examples are large.

    Raises:
        ConfigError: the model was made by hand, or its likelihood has no fixed scale.
        SupportError: the error is 0, or outside of the range of a scale, from 1e-6 to 1e6.
        ShapeError, ContextError: the data does not fit the model.
    """
    check_model(model)
    likelihood = model.decoder.likelihood
    if model.config is None or not isinstance(likelihood, ScaledLikelihood) or likelihood.learned or likelihood.optimal:
        raise ConfigError(
            f"Got a model with the likelihood {type(likelihood).__name__}; expected one created by name with a "
            "likelihood of a fixed scale: laplace or gaussian."
        )
    chosen, total, count = limited(test_set(model, data, split=split), limit)[0], 0.0, 0
    with evaluating(model):
        for x, c in batches(model, chosen, batch_size):
            errors = (model.reconstruct(x, c) - x)[~x.isnan()].double().abs().pow(likelihood.power)
            total, count = total + float(errors.sum()), count + errors.numel()
    scale = (total / count) ** (1.0 / likelihood.power)
    if not 1e-6 <= scale <= 1e6:
        raise SupportError(
            f"Got reconstructions of {shorten(chosen.name)} with a scale of {scale:.3g}; expected one from 1e-6 to 1e6."
        )
    return with_scale(model, scale)


def with_scale(model: VAE, scale: float) -> VAE:
    """Returns a copy of a model that was created by name, whose likelihood has this fixed scale."""
    copy, config = deepcopy(model), cast("Mapping[str, Any]", model.config)  # Any: JSON
    likelihood = cast(ScaledLikelihood, copy.decoder.likelihood)
    likelihood.start = math.log(scale)
    likelihood.log_scale.fill_(likelihood.start)
    changed = {**config["architecture"]["likelihood"], "scale": scale}
    copy.config = {**config, "architecture": {**config["architecture"], "likelihood": changed}}
    return copy
