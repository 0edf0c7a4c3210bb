"""Images side by side, and those that a model makes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from vaezoo.core import VAE, evaluating
from vaezoo.errors import DataError, ShapeError, shorten
from vaezoo.pictures.sheet import SLIDE, Sheet, columns_of_slide, enlarged, rows_of, tiles_of

__all__ = ["comparison", "grid", "reconstructions", "samples"]

MOST_SIDE_BY_SIDE = 12  # models of a comparison; beyond, each is a row
COLUMNS_OF_A_LIST = 24  # its tiles are as wide as those of rows of so many


def grid(
    images: Tensor,
    path: str | os.PathLike[str],
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    scale: int | None = None,
) -> Path:
    """Writes images side by side.

    Args:
        images: (N, H, W) or (N, C, H, W), floating values clipped to [0, 1] or `uint8`. One channel is grey, three are
            colour, two are shown as two grey panels, the first on the left.
        path: where to write, `….png`; its folder is made.
        columns: images in a row; None for a picture about as wide as a slide.
        labels: a text under each image.
        title: a text above all.
        scale: pixels of the picture for each pixel of an image; None for tiles of about a hundred pixels.

    Raises:
        ShapeError: images of another shape, or too many to see.
        DataError: NaN, infinite, or not one label for each image.
        CheckpointError: the file cannot be written.
    """
    tiles = tiles_of(images, "images")
    if labels is not None and len(labels) != len(tiles):
        raise DataError(f"Got {len(labels)} labels for {len(tiles)} images; expected one for each.")
    if columns is not None and columns < 1:
        raise ShapeError(f"Got columns = {columns}; expected at least 1.")
    width = min(len(tiles), columns or columns_of_slide(len(tiles), tiles.shape[2] / tiles.shape[1]))
    tiles = enlarged(tiles, scale, width)
    return Sheet(rows=rows_of(tiles, width), captions=list(labels or ()), title=title or "").save(path)


def reconstructions(model: VAE, x: Tensor, path: str | os.PathLike[str], c: Tensor | None = None) -> Path:
    """Writes images `x` (B, *shape) over their reconstructions, the means of p(x|z) at the posterior's centre.

    Raises:
        ShapeError, SupportError, ContextError: the model does not make images, or not of these inputs.
    """
    check_images(model)
    with evaluating(model):
        made = model.reconstruct(x, c)
    before, after = tiles_of(x, "x"), tiles_of(made, "reconstructions")
    width = columns_of_slide(2 * len(before), before.shape[2] / before.shape[1])
    tiles = enlarged(np.concatenate([before, after]), None, width)
    pairs = zip(rows_of(tiles[: len(before)], width), rows_of(tiles[len(before) :], width), strict=True)
    rows = [row for pair in pairs for row in pair]
    return Sheet(rows=rows, row_labels=["original", "reconstruction"] * (len(rows) // 2)).save(path)


def samples(
    model: VAE, n: int, path: str | os.PathLike[str], c: Tensor | int | None = None, seed: int | None = 0
) -> Path:
    """Writes `n` samples, the means of p(x|z,c) for z ~ p(z|c); `c` and `seed` as in `VAE.sample`.

    Raises:
        ShapeError, ContextError: the model does not make images, or not in this context.
    """
    check_images(model)
    with evaluating(model):
        return grid(model.sample(n, c, seed=seed), path)


def comparison(columns: Mapping[str, Tensor], path: str | os.PathLike[str]) -> Path:
    """Writes what several models make of the same images: their grids side by side, each under its name.

    Of more than twelve models each is a row, so that there is room for the names.

    Args:
        columns: name -> images as in `grid`, as many of one shape under every name.
        path: where to write, `….png`.

    Raises:
        ShapeError: nothing to compare, or images of different numbers or shapes.
    """
    shapes = {name: tuple(images.shape) for name, images in columns.items()}
    if len(set(shapes.values())) != 1:
        raise ShapeError(f"Got images of shapes {shorten(shapes, 400)}; expected one shape, the same for every name.")
    sets = [tiles_of(images, name) for name, images in columns.items()]
    count, ratio = len(sets[0]), sets[0].shape[2] / sets[0].shape[1]
    if len(sets) > MOST_SIDE_BY_SIDE:
        tiles = enlarged(np.concatenate(sets), None, max(count, COLUMNS_OF_A_LIST))
        return Sheet(rows=rows_of(tiles, count), row_labels=list(columns)).save(path)
    ideal = math.sqrt(count / len(sets) * SLIDE / ratio)
    full = [columns for columns in range(1, count + 1) if count % columns == 0]
    width = min(full, key=lambda columns: abs(math.log(columns / ideal)))
    tiles = enlarged(np.concatenate(sets), None, width * len(sets))
    blocks = [rows_of(tiles[start : start + count], width) for start in range(0, len(tiles), count)]
    return Sheet(
        rows=[np.concatenate(row) for row in zip(*blocks, strict=True)],
        headers=[(k * width, (k + 1) * width - 1, name) for k, name in enumerate(columns)],
        breaks=frozenset(k * width - 1 for k in range(1, len(sets))),
    ).save(path)


def check_images(model: VAE) -> None:
    """Raises ShapeError for a model of anything but images."""
    if model.shape is not None and len(model.shape) not in (2, 3):
        raise ShapeError(
            f"This model's x has shape {model.shape}; expected images (H, W) or (C, H, W). There is no picture of a "
            "table's row: look at model.reconstruct(x) and model.sample(n) themselves."
        )
