"""The parts of the page of `vaezoo explore` as HTML: images, figures and a table of latents, from numbers alone."""

import base64
import html
import io
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from vaezoo.core import require
from vaezoo.pictures.sheet import tiles_of
from vaezoo.workflows.explorer import View

MOST_ROWS: Final = 64  # of the table of latents
CSS: Final = """
.vz-images {display: flex; flex-wrap: wrap; gap: 8px; align-items: flex-start}
.vz-images figure {margin: 0; flex: 1 1 0; min-width: 40px; max-width: 220px}
.vz-images.vz-grid {display: grid; grid-template-columns: repeat(8, 1fr); gap: 4px}
.vz-images img {display: block; width: 100%; image-rendering: pixelated; border: 1px solid #d0d0d0}
.vz-images figcaption {font-size: 13px; line-height: 1.3; padding-top: 2px}
.vz-moved {position: sticky; top: 0; z-index: 5; min-width: 150px; flex: 1 1 150px;
  background: var(--body-background-fill)}
.vz-map {max-width: 620px}
.vz-figures {font-size: 14px; margin: 6px 0}
.vz-figures b {font-variant-numeric: tabular-nums}
.vz-note {border-left: 3px solid #d97706; padding: 4px 10px; margin: 4px 0; font-size: 14px}
.vz-scroll {max-height: 340px; overflow: auto}
.vz-table {width: 100%; border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums}
.vz-table th {text-align: right; font-weight: 600; padding: 2px 6px; position: sticky; top: 0;
  background: var(--block-background-fill)}
.vz-table td {text-align: right; padding: 1px 6px; white-space: nowrap}
.vz-table td.vz-bar {width: 34%; text-align: left}
.vz-bar span {display: block; height: 9px; background: #2f6fb3; min-width: 1px}
@media (max-width: 600px) {.vz-images.vz-grid {grid-template-columns: repeat(4, 1fr)}}
"""


def note(text: str) -> str:
    """Returns a message; an empty text gives an empty one."""
    return f'<div class="vz-note" role="status">{html.escape(text)}</div>' if text else ""


def source_of(tile: Tensor) -> str:
    """Returns an image (3, H, W), `uint8`, as the address of a PNG within the page."""
    buffer = io.BytesIO()
    array = np.ascontiguousarray(tile.permute(1, 2, 0).numpy())
    require("PIL.Image", "Pillow", "Drawing a picture").fromarray(array).save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def images(given: Tensor, captions: Sequence[str] = (), *, grid: bool = False) -> str:
    """Returns images (N, C, H, W) with values in [0, 1] next to each other, with a text under each.

    Raises:
        DataError: values that are NaN or infinite.
    """
    texts = list(captions) or [""] * len(given)
    parts = [
        f'<figure><img src="{source_of(tile)}" alt="{html.escape(text or f"image {number}")}">'
        + (f"<figcaption>{html.escape(text)}</figcaption>" if text else "")
        + "</figure>"
        for number, (tile, text) in enumerate(zip(tiles_of(given, "images"), texts, strict=True))
    ]
    return f'<div class="vz-images{" vz-grid" if grid else ""}">{"".join(parts)}</div>'


def heat(error: Tensor) -> Tensor:
    """Returns absolute errors (1, C, H, W) as colors (1, 3, H, W) in [0, 1]: the mean over channels, 1 is the lightest.

    Larger errors than 1, possible where x is not limited to [0, 1], have the color of 1.
    """
    require("matplotlib", "matplotlib", "Drawing a picture")
    from matplotlib import colormaps

    colors = colormaps["magma"](error[0].mean(0).clamp(0.0, 1.0).numpy())[..., :3]
    return torch.from_numpy(np.ascontiguousarray(colors.transpose(2, 0, 1)))[None].float()


def summary(view: View, title: str) -> str:
    """Returns an image, its reconstruction, the error of each pixel and the figures in nats."""
    x, made = (each.expand(-1, 3, -1, -1) for each in (view.x, view.reconstruction))
    captions = [title, "reconstruction", f"absolute error, mean {float(view.error.mean()):.3f}"]
    figures = [
        f"{name} <b>{number(value)}</b>"
        for name, value in (("distortion", view.distortion), ("rate", view.rate), ("bound", view.bound))
    ]
    shown = images(torch.cat([x, made, heat(view.error)]), captions)
    return f'{shown}<div class="vz-figures">{" · ".join(figures)} nats</div>'


def number(value: float) -> str:
    """Returns a number with two digits; a dash for one that is not finite."""
    return f"{value:.2f}".replace("-", "−") if math.isfinite(value) else "–"


def table(view: View) -> str:
    """Returns the table of latents: mean and standard deviation of the posterior, and rate in nats, the largest first.

    Latents of a model without rates are ordered by number.
    """
    centers = view.z if view.mean is None else view.mean
    if centers is None:
        return note("The latents of this model are discrete: they have no mean.")
    order = torch.arange(len(centers)) if view.rates is None else view.rates.argsort(descending=True, stable=True)
    largest = 1.0 if view.rates is None else max(float(view.rates.max()), 1e-9)
    rows = [row(view, centers, index, largest) for index in order[:MOST_ROWS].tolist()]
    left = order[MOST_ROWS:]
    if len(left):
        rest = "" if view.rates is None else f": {number(float(view.rates[left].sum()))} nats"
        rows.append(f'<tr><td colspan="5">{len(left)} others{rest}</td></tr>')
    reason = "" if view.rates is not None else note("The rate of this model is not a sum over latents.")
    heads = ("latent", "mean" if view.mean is not None else "center", "deviation", "rate", "")
    head = "".join(f"<th>{text}</th>" for text in heads)
    return f'{reason}<div class="vz-scroll"><table class="vz-table"><tr>{head}</tr>{"".join(rows)}</table></div>'


def row(view: View, centers: Tensor, index: int, largest: float) -> str:
    """Returns a row of the table of latents."""
    cells = [
        "–" if values is None else number(float(values[index])) for values in (centers, view.deviation, view.rates)
    ]
    share = 0.0 if view.rates is None else max(0.0, float(view.rates[index]) / largest)
    bar = f'<td class="vz-bar"><span style="width:{100 * share:.0f}%"></span></td>'
    return f"<tr><td>z{index}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}{bar}</tr>"
