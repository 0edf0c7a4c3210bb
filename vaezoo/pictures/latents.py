"""Traversals of single latents and interpolations between images."""

import math
import os
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import VAE, center, code_indices, evaluating, rows_at_once, seeded
from vaezoo.errors import ShapeError, shorten
from vaezoo.evaluation.test_sets import examples_of
from vaezoo.pictures.images import check_images
from vaezoo.pictures.sheet import Panel, enlarged, save_sheet, tiles_of

ROWS = 256  # latents decoded at a time
MAX_ROWS = 6  # of a traversal without `dims`: as many as fit on a slide
PRIOR_DRAWS = 2_000  # to estimate the moments of priors that lack them


def traversal(
    model: VAE,
    x: object,
    path: str | os.PathLike[str],
    dims: Sequence[int] | None = None,
    span: float = 3.0,
    steps: int = 9,
    c: Tensor | None = None,
) -> Path:
    """Writes a row of images for each latent, after the original; the others stay at the posterior's center of `x`.

    Args:
        model: a model of images with continuous latents.
        x: one image, (1, *shape), or other data of one image that `vaezoo.data.as_dataset` takes.
        path: the file to write, `….png`.
        dims: indices of latents in the flattened event of z; None for the up to six that change this image most between
            the two ends, the most active first.
        span: a latent goes from -span to +span standard deviations of its prior.
        steps: decoded images in a row.
        c: the context of the image, as in `VAE.encode`.

    Raises:
        ShapeError: not one image, no such latent, fewer than 2 steps, x are not images; or latents that are discrete or
            lie on a surface, so that none can change alone.
    """
    check_images(model)
    x, c = examples_of(model, x, c)
    if len(x) != 1 or steps < 2 or not 0 < span < math.inf:
        raise ShapeError(
            f"Got {len(x)} images, steps = {steps} and span = {span}; expected 1 image, at least 2 steps and a "
            "span above 0."
        )
    with evaluating(model):
        x, context = model.check(x, c)
        z = continuous_center(model, x, context)
        prior = cast(Distribution, model.prior(context))
        mean, deviation = moments(prior)
        ends = torch.stack([mean - span * deviation, mean + span * deviation])
        chosen = most_active(model, z, context, ends) if dims is None else check_dims(dims, z)
        share = torch.linspace(0.0, 1.0, steps, device=z.device, dtype=z.dtype)[None, :]
        values = ends[0, chosen, None] + share * (ends[1] - ends[0])[chosen, None]
        turned = moved(z, chosen.repeat_interleave(steps), values.flatten())
        check_support(prior, turned, "A latent cannot be moved alone in this model")
        originals = tiles_of(x, "x").expand(len(chosen), -1, -1, -1)
        made = tiles_of(decoded(model, turned, context), "images")
    start, tiles = enlarged(torch.cat([originals, made]), None, steps + 1).split([len(originals), len(made)])
    spans = torch.linspace(-span, span, steps).tolist()
    marks = [f"{mark:+.3g}σ".replace("-", "−") if mark else "0" for mark in spans]
    panels = [Panel(start, 1, title="original"), Panel(tiles, steps, marks=marks)]
    return save_sheet(panels, path, row_labels=[f"z{index}" for index in chosen.tolist()])


def interpolation(
    model: VAE, pairs: object, path: str | os.PathLike[str], steps: int = 9, c: Tensor | None = None
) -> Path:
    """Writes a row for each pair of images: one, images decoded on the line between their latents, and the other.

    Args:
        model: a model of images with continuous latents.
        pairs: (P, 2, *shape), or other data that `vaezoo.data.as_dataset` takes, of which two examples at a time are a
            pair, in the context of the first one.
        path: the file to write, `….png`.
        steps: decoded images in a row, the two reconstructions included.
        c: the context of each pair, class indices (P,) or vectors (P, context).

    Raises:
        ShapeError: pairs of another shape, fewer than 2 steps, x are not images; or latents that are discrete or lie on
            a surface, so that a line between two of them leaves it.
    """
    check_images(model)
    pairs, c = pairs_of(model, pairs, c)
    if pairs.dim() < 2 or pairs.shape[1] != 2 or steps < 2:
        raise ShapeError(
            f"Got pairs of shape {tuple(pairs.shape)} and steps = {steps}; expected (P, 2, *shape) and at least 2."
        )
    with evaluating(model):
        first, context = model.check(pairs[:, 0], c)
        second, _ = model.check(pairs[:, 1], c)
        z, target = continuous_center(model, first, context), continuous_center(model, second, context)
        between = torch.stack([torch.lerp(z, target, share) for share in torch.linspace(0.0, 1.0, steps).tolist()], 1)
        context = None if context is None else context.repeat_interleave(steps, 0)
        check_support(
            cast(Distribution, model.prior(context)),
            between.flatten(0, 1),
            "Latents cannot be interpolated in this model",
        )
        made = tiles_of(decoded(model, between.flatten(0, 1), context), "images")
    starts, ends = tiles_of(first, "pairs"), tiles_of(second, "pairs")
    tiles = enlarged(torch.cat([starts, made, ends]), None, steps + 2)
    start, middle, end = tiles.split([len(starts), len(made), len(ends)])
    panels = [
        Panel(start, 1, title="original"),
        Panel(middle, steps, title="between their latents"),
        Panel(end, 1, title="original"),
    ]
    return save_sheet(panels, path)


def pairs_of(model: VAE, pairs: object, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Returns a tensor unchanged, and other data as (P, 2, *shape) with the context of the first one of each pair."""
    x, context = examples_of(model, pairs, c)
    if isinstance(pairs, Tensor):
        return x, c
    even = len(x) // 2 * 2
    return x[:even].unflatten(0, (-1, 2)), context[:even:2] if c is None and context is not None else c


def continuous_center(model: VAE, x: Tensor, c: Tensor | None) -> Tensor:
    """Returns the posterior's center of validated inputs, (B, *latent); raises ShapeError for discrete codes."""
    posterior = cast(Distribution, model.encoder(x, c))
    if code_indices(posterior) is not None:
        raise ShapeError(
            "This model's latents are discrete codes; expected continuous ones, since codes have no values in between. "
            "Use reconstructions(…) or samples(…)."
        )
    return center(posterior)


def check_support(prior: Distribution, z: Tensor, reason: str) -> None:
    """Raises ShapeError if latents `z` are outside the prior's support (one-hot vectors, points of a sphere)."""
    try:
        support = prior.support
    except NotImplementedError:
        return
    if support is not None and not bool(support.check(z).all()):
        raise ShapeError(
            f"{reason}: the support of its prior is {support}, and these z are outside it. Use "
            "reconstructions(…) or samples(…)."
        )


def moments(prior: Distribution) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of each latent under the prior, (D,) each, from draws if it has none."""
    try:
        mean, deviation = prior.mean, prior.stddev
    except (NotImplementedError, AttributeError):
        with seeded(0):
            draws = prior.sample((PRIOR_DRAWS,))
        mean, deviation = draws.mean(0), draws.std(0)
    return mean.flatten(), deviation.flatten()


def check_dims(dims: Sequence[int], z: Tensor) -> Tensor:
    """Returns indices of latents as a tensor; raises ShapeError if there are none, or for indices out of range."""
    if not dims or not all(0 <= index < z.numel() for index in dims):
        raise ShapeError(
            f"Got dims = {shorten(dims)}; expected latents from 0 to {z.numel() - 1}, or None for the most active."
        )
    return torch.tensor(dims, device=z.device)


def most_active(model: VAE, z: Tensor, c: Tensor | None, ends: Tensor) -> Tensor:
    """Returns the latents whose change between `ends` (2, D) changes the decoded image most, the strongest first."""
    effects = []
    for dims in torch.arange(z.numel(), device=z.device).split(rows_at_once(model.shape or (), ROWS)):
        low, high = (decoded(model, moved(z, dims, end[dims]), c) for end in ends)
        effects.append((high - low).flatten(1).square().sum(1))
    return torch.cat(effects).argsort(descending=True, stable=True)[:MAX_ROWS]


def moved(z: Tensor, dims: Tensor, values: Tensor) -> Tensor:
    """Returns a copy of `z` (1, *latent) for each of `dims`, in which that latent is set to its entry of `values`."""
    rows = z.flatten(1).repeat(len(dims), 1)
    rows[torch.arange(len(dims), device=z.device), dims] = values
    return rows.reshape(len(dims), *z.shape[1:])


def decoded(model: VAE, z: Tensor, c: Tensor | None) -> Tensor:
    """Returns the means of p(x|z,c), (N, *shape), for `z` (N, *latent) and one context for all or one for each."""
    contexts = repeat(None) if c is None else c.expand(len(z), -1).split(ROWS)
    return torch.cat([model.decode(rows, each).mean for rows, each in zip(z.split(ROWS), contexts, strict=False)])
