"""Training curves."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vaezoo.core import require
from vaezoo.errors import DataError
from vaezoo.pictures.sheet import DPI, FAINT, INK, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#1f5fa8", "#d1601c")  # of training and validation


def curves(history: Sequence[Mapping[str, float | None]], path: str | os.PathLike[str]) -> Path:
    """Writes curves of bound, distortion and rate (nats) over the steps, in training and on held-out images.

    The first twentieth of the run does not count for the scale, since its values are far from the rest.

    Args:
        history: `Run.history`, or the lines of `metrics.jsonl`; a quantity without finite values has no panel.
        path: the file to write, `….png`.

    Raises:
        DataError: no finite values.
    """
    names = ("bound", "distortion", "rate")
    series = {name: [points(history, name), points(history, f"validation_{name}")] for name in names}
    shown = {name: lines for name, lines in series.items() if any(steps for steps, _ in lines)}
    if not shown:
        raise DataError(
            f"Got {len(history)} lines of metrics without a step and a finite bound, distortion or rate; expected "
            "Run.history. Train for at least one line."
        )
    require("matplotlib", "matplotlib", "Drawing a picture")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * len(shown) + 0.2, 3.4), dpi=DPI, facecolor="white", layout="constrained")
    for position, (name, lines) in enumerate(shown.items(), 1):
        axes = figure.add_subplot(1, len(shown), position)
        draw_panel(axes, f"{name} (nats)", lines, legend=position == 1)
    return write(figure, path)


def points(history: Sequence[Mapping[str, float | None]], name: str) -> tuple[list[float], list[float]]:
    """Returns the steps and the finite values of a quantity."""
    lines = [(line.get("step"), line.get(name)) for line in history]
    kept = [(step, value) for step, value in lines if step is not None and value is not None and math.isfinite(value)]
    return [step for step, _ in kept], [value for _, value in kept]


def draw_panel(axes: "Axes", title: str, lines: Sequence[tuple[list[float], list[float]]], *, legend: bool) -> None:
    """Draws training and validation of one quantity."""
    from matplotlib.ticker import MaxNLocator

    settled: list[float] = []
    for (steps, values), name, color in zip(lines, ("training", "validation"), COLORS, strict=True):
        if steps:
            mark = "o" if name == "validation" or len(steps) == 1 else None
            axes.plot(steps, values, color=color, linewidth=1.6, marker=mark, markersize=3, label=name)
            settled += values[len(values) // 20 :]
    low, high = min(settled), max(settled)
    padding = 0.06 * (high - low) or 1.0
    axes.set_ylim(low - padding, high + padding)
    axes.set_title(title, fontsize=12, color=INK, loc="left")
    axes.set_xlabel("step", fontsize=11, color=FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(labelsize=10, colors=FAINT)
    axes.grid(visible=True, color="#e3e6eb", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if legend and all(steps for steps, _ in lines):
        axes.legend(fontsize=10, frameon=False)
