"""Grids of images, reconstructions and samples of a model, comparisons of models."""

import math
import os
from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.core import VAE, Context, SampleOptions, as_context, check_model, class_names, evaluating
from vaezoo.data import SeriesLayout, layout_of
from vaezoo.errors import DataError, ShapeError, shorten
from vaezoo.evaluation.test_sets import examples_of
from vaezoo.pictures.series import lines
from vaezoo.pictures.sheet import SLIDE, Panel, as_images, columns_of_slide, enlarged, save_sheet, tiles_of

MAX_PANELS = 12  # models next to each other in a comparison; more are drawn as rows
LIST_COLUMNS = 24  # tiles in those rows are as wide as in rows of this length


def grid(
    images: object,
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    scale: int | None = None,
) -> Path:
    """Writes a grid of images as a PNG file; its folder is created.

    Args:
        images: (N, H, W) or (N, C, H, W), floating values clipped to [0, 1] or `uint8`; or other data that
            `vaezoo.data.as_dataset` takes. One channel is gray, three are RGB, two are shown as two gray images, the
            first on the left.
        path: the file to write, `….png`.
        columns: images in a row; None for a picture about as wide as a slide.
        labels: a text under each image.
        title: a text above the grid.
        scale: pixels of the picture for each pixel of an image; None for tiles of about a hundred pixels.

    Raises:
        ShapeError: images of another shape, or too many.
        DataError: NaN or infinite values, or the number of labels is not that of images.
        CheckpointError: the file cannot be written.
    """
    tiles = tiles_of(images, "images")
    if labels is not None and len(labels) != len(tiles):
        raise DataError(f"Got {len(labels)} labels for {len(tiles)} images; expected one for each.")
    if columns is not None and columns < 1:
        raise ShapeError(f"Got columns = {columns}; expected at least 1.")
    width = min(len(tiles), columns or columns_of_slide(len(tiles), tiles.shape[-1] / tiles.shape[-2]))
    return save_sheet([Panel(enlarged(tiles, scale, width), width)], path, captions=labels or (), title=title or "")


def reconstructions(model: VAE, x: object, path: str | os.PathLike[str], c: Tensor | None = None) -> Path:
    """Writes images above their reconstructions, the means of p(x|z) at the posterior's center.

    Series are drawn as lines, in their own units, reconstructions over them. `x` is a tensor (B, *shape),
    or other data that `vaezoo.data.as_dataset` takes; at most 16 examples are drawn.

    Raises:
        ShapeError, SupportError, ContextError: x are neither images nor series, or not valid inputs of the model.
    """
    check_images(model, or_series=True)
    x, c = examples_of(model, x, c)
    with evaluating(model):
        made = model.reconstruct(x, c)
    if isinstance(layout := layout_of(model), SeriesLayout):
        return lines({"original": layout.series(x), "reconstruction": layout.series(made, like=x)}, path)
    tiles = torch.cat([tiles_of(x, "x"), tiles_of(made, "reconstructions")])
    width = min(len(x), columns_of_slide(len(tiles), tiles.shape[-1] / tiles.shape[-2]))
    rows = math.ceil(len(x) / width)
    pairs = enlarged(tiles, None, width).unflatten(0, (2, len(x)))
    pairs = F.pad(pairs, (0, 0, 0, 0, 0, 0, 0, rows * width - len(x)), value=255)  # white tiles in the last row
    tiles = pairs.unflatten(1, (rows, width)).transpose(0, 1).flatten(0, 2)
    return save_sheet([Panel(tiles, width)], path, row_labels=["original", "reconstruction"] * rows)


def samples(
    model: VAE,
    n: int,
    path: str | os.PathLike[str],
    c: Context | None = None,
    seed: int | None = 0,
    **options: Unpack[SampleOptions],
) -> Path:
    """Writes `n` samples, the means of p(x|z,c) for z ~ p(z|c), above the names of their classes if the model has them.

    Series are drawn as lines, in their own units. `c`, `seed` and `options` (temperature, top_k, top_p) are as in
    `VAE.sample`.

    Raises:
        ShapeError, ContextError: the model's x are neither images nor series, or `c` is not a valid context.
    """
    check_images(model, or_series=True)
    names, c = class_names(model.config), as_context(c, model.config)
    with evaluating(model):
        images = model.sample(n, c, seed=seed, **options)
    indices = [] if c is None or not names or c.dim() > 1 else c.expand(n).tolist()
    labels = [names[index] if index >= 0 else "" for index in indices]
    if isinstance(layout := layout_of(model), SeriesLayout):
        return lines({"sample": layout.series(images)}, path, labels)
    return grid(images, path, labels=labels or None)


def comparison(columns: Mapping[str, object], path: str | os.PathLike[str]) -> Path:
    """Writes images of several models: a grid for each with its name above, or a row for each of more than twelve.

    `columns` maps each name to images as in `grid`, the same number and shape for every name.

    Raises:
        ShapeError: no images, or images of different numbers or shapes.
    """
    given = {name: as_images(images) for name, images in columns.items()}
    shapes = {name: tuple(images.shape) for name, images in given.items()}
    if len(set(shapes.values())) != 1:
        raise ShapeError(f"Got images of shapes {shorten(shapes, 400)}; expected one shape, the same for every name.")
    sets = [tiles_of(images, name) for name, images in given.items()]
    count, ratio = len(sets[0]), sets[0].shape[-1] / sets[0].shape[-2]
    if len(sets) > MAX_PANELS:
        tiles = enlarged(torch.cat(sets), None, max(count, LIST_COLUMNS))
        return save_sheet([Panel(tiles, count)], path, row_labels=list(columns))
    ideal = math.sqrt(count / len(sets) * SLIDE / ratio)
    full = [width for width in range(1, count + 1) if count % width == 0]
    width = min(full, key=lambda columns: abs(math.log(columns / ideal)))
    tiles = enlarged(torch.cat(sets), None, width * len(sets))
    return save_sheet(list(map(Panel, tiles.split(count), repeat(width), columns)), path)


def check_images(model: VAE, *, or_series: bool = False) -> None:
    """Raises ShapeError unless the model's x are images, or series where these are drawn, too."""
    check_model(model)
    if isinstance(layout_of(model), SeriesLayout) and not or_series:
        raise ShapeError(
            "This model's x are series, of which reconstructions and samples are drawn, but not traversals and "
            "interpolations. Plot layout_of(model).series(model.decode(z).mean) of latents z that you choose."
        )
    if model.shape is not None and len(model.shape) not in (2, 3):
        raise ShapeError(
            f"This model's x has shape {model.shape}; expected images (H, W) or (C, H, W). Rows of a table cannot be "
            "drawn: use the values of model.reconstruct(x) and model.sample(n)."
        )
