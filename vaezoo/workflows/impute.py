"""`impute`: fills the gaps of rows from a model of them."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import (
    VAE,
    Context,
    Inference,
    Likelihood,
    as_part,
    check_model,
    evaluating,
    has_density,
    is_deterministic,
    sample_with_log_prob,
    seeded,
    whole_number,
)
from vaezoo.core.checks import from_array
from vaezoo.data import SeriesLayout, TableLayout, layout_of, series
from vaezoo.data.tables.reading import read_columns
from vaezoo.errors import ConfigError, NoDensityError

CHUNK = 2_000_000  # elements of x that are decoded at a time


def impute(
    model: VAE,
    rows: object,
    c: Context | None = None,
    *,
    samples: int = 1000,
    draws: int | None = None,
    seed: int | None = None,
) -> Any:  # Any: a tensor, a frame of a package that may be missing, or a list of such frames
    r"""Returns rows with values of the model in their gaps; observed values stay as they are.

    Self-normalized importance sampling (Mattei & Frellsen, 2019, https://arxiv.org/abs/1812.02633): with $z_k \sim
    q(z|x)$ of the observed part x and weights $w_k \propto p(x|z_k)\,p(z_k)/q(z_k|x)$, of sum 1, a gap is filled with
    $\sum_k w_k\,\mathbb{E}[x|z_k]$, its conditional mean as K grows (rounded for counts), or with the
    most probable category or flag.

    Args:
        model: one whose likelihood takes gaps, such as `mixed`, or `gaussian` with `gaps = true`.
        rows: x (N, *shape) with NaN in the gaps; or, for a model of a table with a layout, a data frame, a dict of
            columns, or the path of a .csv or .parquet file; or for a model of series those of `vaezoo.data.series`.
        c: the context, as for `model(x, c)`.
        samples: K, the number of draws of z.
        draws: None for the means; a number M for M rows drawn at random, $z_k$ with probability $w_k$ and then x from
            $p(x|z_k)$: multiple imputation, whose spread is the model's uncertainty.
        seed: leaves all random states unchanged; None draws from the caller's.

    Returns:
        x (N, *shape), or (M, N, *shape) with `draws`; for a table the frame, or a list of M frames; for series N
        tensors (C, t) in their own units, up to the last observed value of each, or a list of M such lists.

    Raises:
        ConfigError: the likelihood takes no gaps; or rows of a table for a model without a layout.
        NoDensityError: the posterior is a point mass in a continuous space; `model.reconstruct(x)` fills its gaps.
        ShapeError, SupportError, ContextError, DataError: the rows do not fit the model.
    """
    check_model(model)
    likelihood = as_part(model.decoder).likelihood
    if likelihood is None or not likelihood.gaps:
        raise ConfigError(
            f"Got a model with the likelihood {type(likelihood).__name__}, which takes no gaps; expected one such as "
            "mixed. Train with likelihood = 'mixed' (architecture.likelihood)."
        )
    samples, layout = whole_number(samples, "samples", 1, error=ConfigError), layout_of(model)
    if draws is not None:
        draws = whole_number(draws, "draws", 1, error=ConfigError)
    given = from_array(rows)
    if isinstance(given, Tensor):
        return _filled(model, likelihood, given, c, samples, draws, seed)
    if isinstance(layout, SeriesLayout):
        x = series(rows, layout=layout).images
        found = _filled(model, likelihood, x, c, samples, draws, seed)
        return layout.series(found, x) if draws is None else [layout.series(each, x) for each in found]
    if layout is None:
        raise ConfigError(
            f"Got rows of type {type(rows).__name__} and a model without the layout of a table or series; expected a "
            "tensor (N, *shape) with NaN in the gaps."
        )
    filled = _filled(model, likelihood, layout.tensor(rows), c, samples, draws, seed)
    return _frame(layout, rows, filled) if draws is None else [_frame(layout, rows, each) for each in filled]


def _frame(layout: TableLayout, rows: object, filled: Tensor) -> Any:  # Any: see `impute`
    """Returns filled rows as a frame with the observed values of the original one."""
    given = read_columns(rows)
    found = layout.values(filled)
    if not given.text:
        found = {
            name: [new if old is None else old for old, new in zip(given.values[name], values, strict=True)]
            for name, values in found.items()
        }
    return layout.as_frame(found, given.library)


@torch.no_grad()
def _filled(
    model: VAE,
    likelihood: Likelihood,
    given: Tensor,
    c: Context | None,
    samples: int,
    draws: int | None,
    seed: int | None,
) -> Tensor:
    """Returns x (N, *shape) without gaps, or (draws, N, *shape), of the type of `given`."""
    x, c = model.check(given, c)
    found = x.clone() if draws is None else x.repeat(draws, *[1] * x.dim())
    gappy = x.isnan().flatten(1).any(1).nonzero().flatten()
    size = max(1, CHUNK // (samples * x[0].numel()))
    with evaluating(model), seeded(seed):
        for places in gappy.split(size) if len(gappy) else ():
            context = None if c is None else c[places]
            values = _values(model, likelihood, x[places], context, samples, draws)
            found.index_copy_(0 if draws is None else 1, places, values)
    kept = given.to(x.device)
    return torch.where(kept.isnan(), found.to(kept.dtype), kept)


def _values(model: VAE, likelihood: Likelihood, x: Tensor, c: Tensor | None, samples: int, draws: int | None) -> Tensor:
    """Returns values of all elements of rows with gaps, (B, *shape) or (draws, B, *shape)."""
    posterior = cast(Distribution, model.encoder(x, c))
    if not has_density(posterior):
        raise NoDensityError(
            "Got a model whose posterior is a point mass in a continuous space; expected one that has a density. "
            "`model.reconstruct(x)` fills gaps, or train another variant."
        )
    z, log_q = sample_with_log_prob(posterior, 1 if is_deterministic(posterior) else samples)
    made = cast(Distribution, model.decoder(z, c))
    drawn = Inference(x=x, z=z, log_q=log_q, posterior=posterior, prior=model.prior(c), likelihood=made, c=c)
    weights = drawn.log_weights().softmax(0)
    if draws is None:
        mean = torch.einsum("kb,kbd->bd", weights, made.mean.flatten(2)).view_as(x)
        return likelihood.point(mean)
    chosen = torch.multinomial(weights.T, draws, replacement=True).T  # (draws, B)
    picked = z[chosen, torch.arange(len(x), device=x.device)]
    return cast(Distribution, model.decoder(picked, c)).sample()
