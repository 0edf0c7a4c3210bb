"""Tiles in rows and columns, drawn pixel by pixel, with words around them."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
from torch import Tensor

from vaezoo.errors import CheckpointError, DataError, ShapeError
from vaezoo.storage.files import write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

__all__ = ["Sheet", "columns_of_slide", "enlarged", "rows_of", "tiles_of", "write"]

SLIDE = 16 / 9  # width/height
DPI = 200
LARGEST = 2**25  # pixels of a picture: beyond it nobody sees an image any more
GAP, WIDE, MARGIN = 6, 30, 24  # pixels between tiles, between groups of columns, and around all of them
FRAME = 208  # the grey of the line around a tile, which shows where a white image ends
INK, FAINT = "#1f2430", "#5b6272"
SMALLEST = 15.0  # pixels of letters: below it a text is cut instead
FONT = "DejaVu Sans"  # matplotlib carries it


def tiles_of(images: Tensor, what: str) -> Pixels:
    """Returns images (N, H, W) or (N, C, H, W) as colours (N, H, W, 3); raises ShapeError or DataError."""
    if not isinstance(images, Tensor) or images.dim() not in (3, 4) or images.numel() == 0:
        got = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"type {type(images).__name__}"
        raise ShapeError(f"Got {what} of {got}; expected a tensor (N, H, W) or (N, C, H, W) with at least one image.")
    stack = images.detach().cpu() if images.dim() == 4 else images.detach().cpu()[:, None]
    channels = stack.shape[1]
    if channels > 3:
        raise ShapeError(f"Got {what} of {channels} channels; expected 1, 2 or 3. Choose some: images[:, :3].")
    values = stack.double() / 255.0 if stack.dtype == torch.uint8 else stack.double()
    if not bool(torch.isfinite(values).all()):
        bad = (~torch.isfinite(values)).flatten(1).any(1).nonzero().flatten().tolist()
        raise DataError(
            f"Got NaN or infinite values in {what} {bad[:8]}; expected numbers from 0 to 1. Look at the model."
        )
    levels = values.clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    if channels == 2:
        edge = torch.full_like(levels[:, :1, :, :1], FRAME)
        levels = torch.cat([levels[:, :1], edge, levels[:, 1:]], -1)
    return cast("Pixels", levels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy())


def columns_of_slide(count: int, ratio: float) -> int:
    """Returns how many tiles of width/height `ratio` stand in a row of a slide, better still in full rows."""
    ideal = max(1, min(count, math.ceil(math.sqrt(count * SLIDE / ratio))))
    full = [columns for columns in range(1, count + 1) if count % columns == 0 and 0.7 <= columns / ideal <= 1.5]
    return min(full, key=lambda columns: abs(columns - ideal), default=ideal)


def enlarged(tiles: Pixels, scale: int | None, columns: int) -> Pixels:
    """Returns tiles whose pixels are `scale` wide and high; None for about a hundred pixels, fewer in long rows."""
    side = max(tiles.shape[1:3])
    if scale is not None and scale < 1:
        raise ShapeError(f"Got scale = {scale}; expected at least 1.")
    factor = scale or max(1, round(min(168, max(56, 1600 // columns)) / side))
    if tiles.size // 3 * factor**2 > LARGEST:
        raise ShapeError(
            f"Got {len(tiles)} images of {tiles.shape[1]} x {tiles.shape[2]} pixels, each {factor} wide; expected at "
            f"most {LARGEST:,} pixels in all. Show fewer images, or make scale smaller."
        )
    return tiles.repeat(factor, 1).repeat(factor, 2)


def rows_of(tiles: Pixels, width: int) -> list[Pixels]:
    """Returns tiles in rows of `width`; the last may be shorter."""
    return [tiles[start : start + width] for start in range(0, len(tiles), width)]


@dataclass(frozen=True, kw_only=True)
class Words:
    """A line of text: the pixels from the top left corner to its middle height, its size, its side at `x`."""

    text: str
    x: float
    y: float
    size: float
    side: Literal["left", "center", "right"] = "center"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Tiles in rows and columns, with what is written around them.

    `rows`: (n, h, w, 3) each, the last may be shorter. `row_labels` stand on the left, `captions` under each tile,
    `headers` (first column, last column, text) above, `title` above all. A wide gap follows the columns in `breaks`.
    """

    rows: Sequence[Pixels]
    row_labels: Sequence[str] = ()
    captions: Sequence[str] = ()
    headers: Sequence[tuple[int, int, str]] = ()
    title: str = ""
    breaks: frozenset[int] = frozenset()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Draws the sheet and writes it."""
        high, wide = self.rows[0].shape[1:3]
        size = min(26.0, max(18.0, 0.17 * high))  # of the letters, in pixels
        line = math.ceil(1.6 * size)
        left = MARGIN + max((math.ceil(width_of(text, size)) + 16 for text in self.row_labels), default=0)
        top = MARGIN + (math.ceil(2.4 * size) if self.title else 0) + (line if self.headers else 0)
        gaps = [WIDE if column in self.breaks else GAP for column in range(len(self.rows[0]) - 1)]
        x = [left + column * wide + sum(gaps[:column]) for column in range(len(self.rows[0]))]
        pitch = high + GAP + (line if self.captions else 0)
        y = [top + row * pitch for row in range(len(self.rows))]
        words = [Words(text=self.title, x=left, y=MARGIN + 0.7 * size, size=1.3 * size, side="left")]
        for text, at in zip(self.row_labels, y, strict=False):
            words.append(Words(text=text, x=left - 16, y=at + high / 2, size=size, side="right"))
        words += fitted([(x[a], x[b] + wide, top - 0.7 * line, text) for a, b, text in self.headers], size)
        cells = [(column, column + wide, row + high + 0.5 * line) for row in y for column in x]
        words += fitted([(*cell, text) for cell, text in zip(cells, self.captions, strict=False)], size)
        width = max(x[-1] + wide, left + math.ceil(width_of(self.title, 1.3 * size))) + MARGIN
        page = np.full((y[-1] + pitch - GAP + MARGIN, width, 3), 255, np.uint8)
        paste(page, self.rows, x, y)
        return write(lettered(page, words), path)


def paste(page: Pixels, rows: Sequence[Pixels], x: Sequence[int], y: Sequence[int]) -> None:
    """Puts tiles on a page at the corners `x`, `y`, each in a thin frame."""
    for tiles, top in zip(rows, y, strict=True):
        for tile, left in zip(tiles, x, strict=False):
            high, wide = tile.shape[:2]
            page[top - 1 : top + high + 1, left - 1 : left + wide + 1] = FRAME
            page[top : top + high, left : left + wide] = tile


def fitted(boxes: Sequence[tuple[float, float, float, str]], size: float) -> list[Words]:
    """Returns texts in the middle of their boxes (left, right, height, text), of one size, cut where too long."""
    widest = max((width_of(text, size) / (right - left) for left, right, _, text in boxes), default=1.0)
    size = max(SMALLEST, size / max(1.0, widest))
    words = []
    for left, right, at, text in boxes:
        kept = next((kept for kept in cuts(text) if width_of(kept, size) <= right - left + GAP), "…")
        words.append(Words(text=kept, x=(left + right) / 2, y=at, size=size))
    return words


def cuts(text: str) -> Iterator[str]:
    """Yields a text and its ever shorter beginnings."""
    yield text
    yield from (f"{text[:end].rstrip()}…" for end in range(min(len(text), 200) - 1, 0, -1))


def width_of(text: str, size: float) -> float:
    """Returns how wide a line of text is, in pixels."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(family=FONT, size=size), ismath=False)
    return float(width)


def lettered(page: Pixels, words: Sequence[Words]) -> Pixels:
    """Returns a white page (h, w, 3) with dark words on it; its tiles keep their exact values."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    high, wide = page.shape[:2]
    # Half a pixel more than the page, because matplotlib rounds down.
    figure = Figure(figsize=((wide + 0.5) / DPI, (high + 0.5) / DPI), dpi=DPI, facecolor="white")
    for each in words:
        figure.text(
            each.x / wide,
            1.0 - each.y / high,
            " ".join(each.text.split()),
            fontsize=each.size * 72 / DPI,
            family=FONT,
            color=INK,
            ha=each.side,
            va="center_baseline",
            parse_math=False,
            usetex=False,
        )
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    lettering: Pixels = np.asarray(canvas.buffer_rgba())[:high, :wide, :3]
    return np.minimum(page, lettering)


def write(picture: Figure | Pixels, path: str | os.PathLike[str]) -> Path:
    """Writes a figure or pixels (h, w, 3) as PNG, without a clock or a version in it, and returns the path.

    Raises:
        DataError: the path does not end in .png.
        CheckpointError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    target = Path(path)
    if target.suffix.lower() != ".png":
        raise DataError(f"Got the path {str(target)!r}; expected one that ends in .png: that is what pictures are.")
    buffer = io.BytesIO()
    if isinstance(picture, np.ndarray):
        Image.fromarray(picture).save(buffer, "png")
    else:
        FigureCanvasAgg(picture).print_png(buffer, metadata={"Software": None})
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(f"Could not make the folder {target.parent}: {error}. Choose another path.") from None
    write_file(target, buffer.getvalue())
    return target
