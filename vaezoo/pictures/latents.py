"""What latents do: one at a time, and on the way from one image to another."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import VAE, center, code_indices, evaluating, seeded
from vaezoo.errors import ShapeError, shorten
from vaezoo.pictures.images import check_images
from vaezoo.pictures.sheet import Sheet, enlarged, rows_of, tiles_of

__all__ = ["interpolation", "traversal"]

ROWS = 256  # latents decoded at a time
MOST = 6  # rows of a traversal that nobody chose: what fits on a slide
PRIOR_DRAWS = 2_000  # from priors that do not know their own standard deviation


def traversal(
    model: VAE,
    x: Tensor,
    path: str | os.PathLike[str],
    dims: Sequence[int] | None = None,
    span: float = 3.0,
    steps: int = 9,
    c: Tensor | None = None,
) -> Path:
    """Writes what each latent does: a row for each, in which it alone moves.

    It goes from -`span` to +`span` standard deviations of its prior; the others stay at the posterior's centre of `x`.

    Args:
        model: a model of images with continuous latents.
        x: one image, (1, *shape).
        path: where to write, `….png`.
        dims: which latents, numbered over the flattened event of z; None for the up to six that change this image most
            between the two ends, the most active first.
        span: how far, in standard deviations of the prior.
        steps: images in a row.
        c: the context of the image, as in `VAE.encode`.

    Raises:
        ShapeError: not one image, no such latent, fewer than 2 steps, no images at all; or latents that are discrete or
            bound to a surface, so that none can move alone.
    """
    check_images(model)
    if len(x) != 1 or steps < 2 or not 0 < span < math.inf:
        raise ShapeError(
            f"Got {len(x)} images, steps = {steps} and span = {span}; expected 1 image, at least 2 steps and a "
            "span above 0."
        )
    with evaluating(model):
        x, context = model.check(x, c)
        z = continuous_centre(model, x, context)
        prior = cast(Distribution, model.prior(context))
        mean, deviation = moments(prior, x.device)
        ends = torch.stack([mean - span * deviation, mean + span * deviation])
        chosen = torch.tensor(check_dims(dims, z.numel()) or most_active(model, z, context, ends), device=z.device)
        share = torch.linspace(0.0, 1.0, steps, device=z.device, dtype=z.dtype)[None, :]
        values = ends[0, chosen, None] + share * (ends[1] - ends[0])[chosen, None]
        turned = moved(z, chosen.repeat_interleave(steps), values.flatten())
        check_support(prior, turned, "A latent cannot be moved alone in this model")
        tiles = enlarged(tiles_of(decoded(model, turned, context), "images"), None, steps)
    marks = [f"{mark:+.3g}σ".replace("-", "−") if mark else "0" for mark in np.linspace(-span, span, steps)]
    names = [f"z{index}" for index in chosen.tolist()]
    return Sheet(
        rows=rows_of(tiles, steps), row_labels=names, headers=[(k, k, mark) for k, mark in enumerate(marks)]
    ).save(path)


def interpolation(
    model: VAE, pairs: Tensor, path: str | os.PathLike[str], steps: int = 9, c: Tensor | None = None
) -> Path:
    """Writes the way from one image to another, a row for each pair: the originals outside, what is decoded between.

    The latents go straight from the posterior's centre of the first image to that of the second.

    Args:
        model: a model of images with continuous latents.
        pairs: (P, 2, *shape).
        path: where to write, `….png`.
        steps: decoded images in a row, the two reconstructions included.
        c: the context of each pair, class indices (P,) or vectors (P, context).

    Raises:
        ShapeError: pairs of another shape, fewer than 2 steps, no images at all; or latents that are discrete or bound
            to a surface, so that no straight way leads from one to another.
    """
    check_images(model)
    if pairs.dim() < 2 or pairs.shape[1] != 2 or steps < 2:
        raise ShapeError(
            f"Got pairs of shape {tuple(pairs.shape)} and steps = {steps}; expected (P, 2, *shape) and at least 2."
        )
    with evaluating(model):
        first, context = model.check(pairs[:, 0], c)
        second, _ = model.check(pairs[:, 1], c)
        z, target = continuous_centre(model, first, context), continuous_centre(model, second, context)
        between = torch.stack([torch.lerp(z, target, share) for share in np.linspace(0.0, 1.0, steps).tolist()], 1)
        context = None if context is None else context.repeat_interleave(steps, 0)
        check_support(
            cast(Distribution, model.prior(context)),
            between.flatten(0, 1),
            "There is no straight way between two latents",
        )
        made = tiles_of(decoded(model, between.flatten(0, 1), context), "images")
    ends = [tiles_of(each, "pairs") for each in (first, second)]
    rows = [
        np.concatenate([a[None], row, b[None]])
        for a, row, b in zip(ends[0], rows_of(made, steps), ends[1], strict=True)
    ]
    rows = rows_of(enlarged(np.concatenate(rows), None, steps + 2), steps + 2)
    headers = [(0, 0, "original"), (1, steps, "between their latents"), (steps + 1, steps + 1, "original")]
    return Sheet(rows=rows, headers=headers, breaks=frozenset({0, steps})).save(path)


def continuous_centre(model: VAE, x: Tensor, c: Tensor | None) -> Tensor:
    """Returns the posterior's centre of checked inputs, (B, *latent); raises ShapeError for discrete codes."""
    posterior = cast(Distribution, model.encoder(x, c))
    if code_indices(posterior) is not None:
        raise ShapeError(
            "This model's latents are discrete codes; expected continuous ones: there is nothing between two codes. "
            "Use reconstructions(…) or samples(…)."
        )
    return center(posterior)


def check_support(prior: Distribution, z: Tensor, reason: str) -> None:
    """Raises ShapeError where the prior says that latents `z` cannot be (one-hot vectors, points of a sphere)."""
    try:
        support = prior.support
    except NotImplementedError:
        return
    if support is not None and not bool(support.check(z).all()):
        raise ShapeError(
            f"{reason}: its prior lives on {support}, which these z leave. Use reconstructions(…) or samples(…)."
        )


def moments(prior: Distribution, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of each latent under the prior, (D,) each: its own, else those of draws."""
    try:
        mean, deviation = prior.mean, prior.stddev
    except (NotImplementedError, AttributeError):
        with seeded(0, device):
            draws = prior.sample((PRIOR_DRAWS,))
        mean, deviation = draws.mean(0), draws.std(0)
    return mean.flatten(), deviation.flatten()


def check_dims(dims: Sequence[int] | None, size: int) -> list[int]:
    """Returns `dims` as a list, empty for None; raises ShapeError for latents that are not there."""
    chosen = [] if dims is None else list(dims)
    wrong = [index for index in chosen if not 0 <= index < size]
    if wrong or (dims is not None and not chosen):
        raise ShapeError(
            f"Got dims = {shorten(chosen)}; expected latents from 0 to {size - 1}, or None for the most active."
        )
    return chosen


def most_active(model: VAE, z: Tensor, c: Tensor | None, ends: Tensor, most: int = MOST) -> list[int]:
    """Returns up to `most` latents in the order of how much the decoded image changes between their ends (2, D)."""
    effects = []
    for dims in torch.arange(z.numel(), device=z.device).split(ROWS):
        low, high = (decoded(model, moved(z, dims, end[dims]), c) for end in ends)
        effects.append((high - low).flatten(1).square().sum(1))
    return torch.cat(effects).argsort(descending=True, stable=True)[:most].tolist()


def moved(z: Tensor, dims: Tensor, values: Tensor) -> Tensor:
    """Returns copies of `z` (1, *latent), one for each of `dims`, in which that latent has its value of `values`."""
    rows = z.flatten(1).repeat(len(dims), 1)
    rows[torch.arange(len(dims), device=z.device), dims] = values
    return rows.reshape(len(dims), *z.shape[1:])


def decoded(model: VAE, z: Tensor, c: Tensor | None) -> Tensor:
    """Returns the means of p(x|z,c), (N, *shape), for `z` (N, *latent) and one context for all or one for each."""
    context = None if c is None else c.expand(len(z), -1)
    contexts = [None] * len(z) if context is None else context.split(ROWS)
    return torch.cat([model.decode(rows, each).mean for rows, each in zip(z.split(ROWS), contexts, strict=False)])
