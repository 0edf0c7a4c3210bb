"""Labeled sheets of images: torchvision makes the grids, matplotlib places them and draws the text."""

import io
import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vaezoo.core import require
from vaezoo.data import as_dataset
from vaezoo.errors import CheckpointError, DataError, ShapeError
from vaezoo.storage.files import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLIDE = 16 / 9  # width/height
DPI = 200
MAX_PIXELS = 2**25  # of a picture
GAP, WIDE_GAP, MARGIN = 4, 26, 24  # pixels between tiles, between panels, and around the sheet
FRAME = 208  # gray level of the line around a tile, which separates white images
INK, FAINT = "#1f2430", "#5b6272"
FONT = "DejaVu Sans"  # is part of matplotlib


def as_images(images: object) -> Tensor:
    """Returns a tensor unchanged, and other data that `as_dataset` takes as `float32` (N, *shape)."""
    return images if isinstance(images, Tensor) else as_dataset(images, "test").batch(slice(None))


def tiles_of(given: object, what: str) -> Tensor:
    """Returns images (N, H, W) or (N, C, H, W) as colors (N, 3, H, W), `uint8`; raises ShapeError or DataError."""
    images = as_images(given)
    if images.dim() not in (3, 4) or images.numel() == 0:
        raise ShapeError(
            f"Got {what} of shape {tuple(images.shape)}; expected (N, H, W) or (N, C, H, W) with at least one image."
        )
    stack = images.detach().cpu() if images.dim() == 4 else images.detach().cpu()[:, None]
    if stack.shape[1] > 3:
        raise ShapeError(f"Got {what} of {stack.shape[1]} channels; expected 1, 2 or 3. Choose some: images[:, :3].")
    values = stack.double() / 255.0 if stack.dtype == torch.uint8 else stack.double()
    if not bool(torch.isfinite(values).all()):
        bad = (~torch.isfinite(values)).flatten(1).any(1).nonzero().flatten().tolist()
        raise DataError(
            f"Got NaN or infinite values in {what} {bad[:8]}; expected numbers from 0 to 1. Check the model."
        )
    levels = values.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    if levels.shape[1] == 2:
        edge = torch.full_like(levels[:, :1, :, :1], FRAME)
        levels = torch.cat([levels[:, :1], edge, levels[:, 1:]], -1)
    return levels.expand(-1, 3, -1, -1)


def columns_of_slide(count: int, ratio: float) -> int:
    """Returns the number of tiles of width/height `ratio` in a row of a slide, preferably with full rows."""
    ideal = max(1, min(count, math.ceil(math.sqrt(count * SLIDE / ratio))))
    full = [columns for columns in range(1, count + 1) if count % columns == 0 and 0.7 <= columns / ideal <= 1.5]
    return min(full, key=lambda columns: abs(columns - ideal), default=ideal)


def enlarged(tiles: Tensor, scale: int | None, columns: int) -> Tensor:
    """Returns framed tiles with pixels `scale` wide; None makes tiles of about 100 pixels, fewer in long rows."""
    high, wide = tiles.shape[-2:]
    if scale is not None and scale < 1:
        raise ShapeError(f"Got scale = {scale}; expected at least 1.")
    factor = scale or max(1, round(min(168, max(56, 1600 // columns)) / max(high, wide)))
    if tiles.numel() // 3 * factor**2 > MAX_PIXELS:
        raise ShapeError(
            f"Got {len(tiles)} images of {high} x {wide} pixels, each {factor} wide; expected at most {MAX_PIXELS:,} "
            "pixels in all. Show fewer images, or reduce scale."
        )
    large = tiles.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    return F.pad(large, (1, 1, 1, 1), value=FRAME)


@dataclass(frozen=True)
class Panel:
    """A grid of tiles (N, 3, H, W) with `columns` tiles in a row, and a text above it or above each of its columns."""

    tiles: Tensor
    columns: int
    title: str = ""
    marks: Sequence[str] = ()


def save_sheet(
    panels: Sequence[Panel],
    path: str | os.PathLike[str],
    *,
    row_labels: Sequence[str] = (),
    captions: Sequence[str] = (),
    title: str = "",
) -> Path:
    """Writes panels next to each other, with `row_labels` on the left, `captions` under the tiles, `title` above."""
    high, wide = panels[0].tiles.shape[-2:]
    size = min(26.0, max(18.0, 0.17 * high))  # of the letters, in pixels
    notes = [wrapped(text, wide, size) for text in captions]
    foot = math.ceil(1.2 * size * max((text.count("\n") + 1 for text in notes), default=0)) + 8 * bool(notes)
    grids = [grid_of(panel, foot) for panel in panels]
    gap = torch.full((3, grids[0].shape[1], WIDE_GAP), 255, dtype=torch.uint8)
    figure, axes = shown(torch.cat([part for grid in grids for part in (gap, grid)][1:], 2))
    write_text = partial(
        axes.text, fontsize=size * 72 / DPI, family=FONT, color=INK, ha="center", linespacing=1.1, parse_math=False
    )
    columns, rows, left = wide + GAP, high + foot + GAP, 0
    for panel, grid in zip(panels, grids, strict=True):
        width = grid.shape[2]
        write_text(left + width / 2, -14, wrapped(panel.title, width, size))
        for column, mark in enumerate(panel.marks):
            write_text(left + column * columns + wide / 2, -14, wrapped(mark, wide, size))
        left += width + WIDE_GAP
    for row, text in enumerate(row_labels):
        write_text(-14, row * rows + high / 2, text, ha="right", va="center_baseline")
    for number, text in enumerate(notes):
        row, column = divmod(number, panels[0].columns)
        write_text(column * columns + wide / 2, row * rows + high + 4, text, va="top")
    write_text(0, -16, title, ha="left", fontsize=1.3 * size * 72 / DPI)
    return write(figure, path, margin=MARGIN)


def grid_of(panel: Panel, foot: int) -> Tensor:
    """Returns a panel as one image (3, H, W), each tile with `foot` white pixels below it."""
    utils = require("torchvision.utils", "torchvision", "Drawing a picture")
    grid: Tensor = utils.make_grid(F.pad(panel.tiles, (0, 0, 0, foot), value=255), panel.columns, GAP, pad_value=255)
    return grid if len(panel.tiles) == 1 else grid[:, GAP:-GAP, GAP:-GAP]  # a single tile has no padding


def shown(page: Tensor) -> "tuple[Figure, Axes]":
    """Returns a figure that shows an image (3, H, W) pixel by pixel, and its axes in pixels from the top left."""
    require("matplotlib", "matplotlib", "Drawing a picture")
    from matplotlib.figure import Figure

    high, wide = page.shape[1:]
    figure = Figure(figsize=(wide / DPI, high / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    extent = (0, wide, high, 0)
    axes.imshow(page.permute(1, 2, 0).numpy(), interpolation="nearest", origin="upper", aspect="auto", extent=extent)
    return figure, axes


def wrapped(text: str, width: float, size: float) -> str:
    """Returns a text in up to three lines of at most `width` pixels, for letters of an average width."""
    return textwrap.fill(text, max(4, int(width / (0.6 * size))), max_lines=3, placeholder="…")


def write(figure: "Figure", path: str | os.PathLike[str], margin: int | None = None) -> Path:
    """Writes a figure as PNG; with a `margin` in pixels, the page encloses all that is drawn, at whole pixels.

    Raises:
        DataError: the path does not end in .png.
        CheckpointError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    target = Path(path)
    if target.suffix.lower() != ".png":
        raise DataError(f"Got the path {str(target)!r}; expected one that ends in .png, the only format.")
    canvas, buffer, box = FigureCanvasAgg(figure), io.BytesIO(), None
    if margin is not None:
        extents = np.round(np.asarray(figure.get_tightbbox(canvas.get_renderer()).extents) * DPI, 3)
        lower, upper = np.floor(extents[:2]) - margin, np.ceil(extents[2:]) + margin
        box = Bbox.from_extents(*lower / DPI, *upper / DPI)
    canvas.print_figure(
        buffer, dpi=DPI, facecolor="white", bbox_inches=box, metadata={"Software": None}, pil_kwargs={"optimize": True}
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"Could not create the folder {target.parent}: {error}. Choose another path.") from None
    write_file(target, buffer.getvalue())
    return target
