"""Pictures of series as lines."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from vaezoo.core import require
from vaezoo.errors import DataError
from vaezoo.pictures.plots import color_map
from vaezoo.pictures.sheet import DPI, FAINT, INK, columns_of_slide, write

SIZE = (2.4, 1.3)  # of a plot, in inches
MOST_PLOTS = 256


def lines(sets: Mapping[str, Sequence[Tensor]], path: str | os.PathLike[str], titles: Sequence[str] = ()) -> Path:
    """Writes a small plot of each series, in which the series of all sets with the same number lie over each other.

    Args:
        sets: name -> series (C, t), as many for each name; each channel is a line, and NaN a gap in it. With several
            sets the first is gray, such as originals below reconstructions.
        path: the file to write, `….png`.
        titles: a text above each plot.

    Raises:
        DataError: no series, different numbers of them, or more than 256.
        CheckpointError: the file cannot be written.
    """
    counts = sorted({len(each) for each in sets.values()})
    if len(counts) != 1 or not 0 < counts[0] <= MOST_PLOTS:
        raise DataError(f"Got sets of {counts} series to draw; expected 1 to {MOST_PLOTS} each, as many in all sets.")
    require("matplotlib", "matplotlib", "Drawing a picture")
    from matplotlib.figure import Figure

    count = counts[0]
    columns = columns_of_slide(count, SIZE[0] / SIZE[1])
    rows = -(-count // columns)
    size = (SIZE[0] * columns, SIZE[1] * rows + 0.3)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white", layout="constrained")
    plots = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in plots[count:]:
        axes.set_axis_off()
    for number, (name, series) in enumerate(sets.items()):
        gray = number == 0 and len(sets) > 1
        for axes, one in zip(plots, series, strict=False):
            for channel, color in zip(one, color_map(len(one)), strict=True):
                line = axes.plot(channel.tolist(), color="#a5abb6" if gray else color, linewidth=1.6 if gray else 0.8)
            line[0].set_label(name)
    for number, axes in enumerate(plots[:count]):
        axes.tick_params(labelsize=6, colors=FAINT)
        axes.set_title(titles[number] if titles else "", fontsize=7, color=INK, parse_math=False)
    if len(sets) > 1:
        figure.legend(*plots[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(sets), fontsize=8)
    return write(figure, path)
