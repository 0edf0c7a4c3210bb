"""Plots of numbers: a map of latents, and named points in a plane."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vaezoo.core import require
from vaezoo.errors import DataError, ShapeError
from vaezoo.pictures.sheet import DPI, FAINT, INK, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 20  # with a color of their own


def latent_map(
    latents: Tensor, path: str | os.PathLike[str], labels: Tensor | None = None, names: Sequence[str] = ()
) -> Path:
    """Writes a scatter plot of latents: of both if there are two, else of their first two principal components.

    Args:
        latents: (N, D), one row for each example, such as `vaezoo.evaluation.representation` returns; N ≥ 3.
        path: the file to write, `….png`.
        labels: classes (N,), integers from 0, which are drawn in different colors; None for one color.
        names: of the classes, for the legend; their numbers if there are none.

    Raises:
        ShapeError: not such a matrix, or another number of labels.
        DataError: latents that are not finite.
        CheckpointError: the file cannot be written.
    """
    if latents.dim() != 2 or len(latents) < 3 or latents.shape[1] < 1:
        raise ShapeError(f"Got latents {tuple(latents.shape)}; expected (N, D) with N ≥ 3: flatten those of a grid.")
    if labels is not None and labels.shape != latents.shape[:1]:
        raise ShapeError(f"Got labels {tuple(labels.shape)}; expected ({len(latents)},), one for each row.")
    if not bool(latents.isfinite().all()):
        raise DataError("Got latents that are NaN or infinite; expected finite ones. Inspect the model.")
    places, axis_names = plane_of(latents.double().cpu())
    figure, axes = panel(5.4, 4.6)
    scatter(axes, places, labels, names)
    axes.set_xlabel(axis_names[0], fontsize=10, color=FAINT)
    axes.set_ylabel(axis_names[1], fontsize=10, color=FAINT)
    if labels is not None:
        axes.legend(fontsize=8, frameon=False, markerscale=3, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return write(figure, path, margin=12)


def scatter(axes: "Axes", places: Tensor, labels: Tensor | None, names: Sequence[str]) -> None:
    """Draws places (N, 2) in the colors of their labels (N,), or in one color for None and for too many classes."""
    marks = labels.cpu() if labels is not None and int(labels.max()) < MOST_CLASSES else torch.zeros(len(places)).int()
    colors = color_map(int(marks.max()) + 1)
    for label in marks.unique().tolist():
        chosen = places[marks == label].numpy()
        name = str(names[label]) if label < len(names) else str(label)
        axes.scatter(chosen[:, 0], chosen[:, 1], s=5, linewidths=0, alpha=0.7, color=colors[label], label=name)


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A plane in the space of D latents: `origin` (D,), two orthonormal `directions` (2, D) and names of the axes.

    The second direction is 0 where there is one latent.
    """

    origin: Tensor
    directions: Tensor
    names: tuple[str, str]

    def project(self, latents: Tensor) -> Tensor:
        """Returns the places (N, 2) in the plane that are nearest to latents (N, D)."""
        return (latents - self.origin) @ self.directions.mT

    def latents(self, places: Tensor) -> Tensor:
        """Returns the latents (N, D) at places (N, 2)."""
        return self.origin + places @ self.directions


def plane_of(latents: Tensor) -> tuple[Tensor, tuple[str, str]]:
    """Returns latents (N, D) in a plane, (N, 2), and the names of its axes."""
    plane = principal_plane(latents)
    return plane.project(latents), plane.names


def principal_plane(latents: Tensor) -> Plane:
    """Returns the plane of both latents if there are two, else of the first two principal components of (N, D)."""
    width = latents.shape[1]
    if width <= 2:
        names = ("latent 0", "latent 1" if width == 2 else "")
        return Plane(origin=latents.new_zeros(width), directions=torch.eye(2, width).to(latents), names=names)
    mean = latents.mean(0)
    _, scales, directions = torch.linalg.svd(latents - mean, full_matrices=False)
    signs = directions[:2].gather(1, directions[:2].abs().argmax(1, keepdim=True)).sign()  # of the largest entry
    shares = (scales.square() / scales.square().sum().clamp(min=1e-300)).tolist()
    first, second = (
        f"principal component {number + 1} ({100 * shares[number]:.0f} % of the variance)" for number in (0, 1)
    )
    return Plane(origin=mean, directions=directions[:2] * signs, names=(first, second))


def named_points(
    points: Mapping[str, tuple[float, float]],
    path: str | os.PathLike[str],
    *,
    x: str,
    y: str,
    title: str = "",
    logarithmic: bool = False,
    sums: bool = False,
) -> Path:
    """Writes a scatter plot of named points, which are numbered, with a legend of the names.

    Args:
        points: name -> (x, y), finite.
        path: the file to write, `….png`.
        x: name of the horizontal axis.
        y: name of the vertical axis.
        title: above the plot.
        logarithmic: whether the horizontal axis is logarithmic.
        sums: whether to draw lines of equal x + y, such as those of equal bounds for rate and distortion.

    Raises:
        DataError: there is no point.
        CheckpointError: the file cannot be written.
    """
    if not points:
        raise DataError(f"Got no points for a plot of {y} against {x}; expected at least one. Choose other models.")
    figure, axes = panel(6.2, 4.8)
    if logarithmic:
        axes.set_xscale("log")
    for number, (place_x, place_y) in enumerate(points.values(), 1):
        axes.plot(place_x, place_y, "o", color="#1f5fa8", markersize=11, alpha=0.85)
        axes.annotate(str(number), (place_x, place_y), ha="center", va="center", fontsize=6, color="white")
    if sums:
        draw_sums(axes)
    axes.set_xlabel(x, fontsize=10, color=FAINT)
    axes.set_ylabel(y, fontsize=10, color=FAINT)
    axes.set_title(title, fontsize=12, color=INK, loc="left")
    legend = "\n".join(f"{number:2d}  {name}" for number, name in enumerate(points, 1))
    axes.text(1.03, 1.0, legend, transform=axes.transAxes, fontsize=7, color=INK, va="top", linespacing=1.35)
    return write(figure, path, margin=12)


def draw_sums(axes: "Axes") -> None:
    """Draws dashed lines of equal x + y over the extent of the axes, with their sums."""
    left, right = axes.get_xlim()
    low, high = axes.get_ylim()
    span = (right + high) - (left + low)
    step = next(each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if span / each <= 12)
    first = int((left + low) // step + 1)
    for total in range(first * step, int(right + high) + 1, step):
        axes.plot([left, right], [total - left, total - right], "--", color="#c9ced6", linewidth=0.7, zorder=0)
        if low < total - right < high - 0.04 * (high - low):
            axes.annotate(f"{total}", (right, total - right), fontsize=6, color=FAINT, ha="right", va="bottom")
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)


def panel(width: float, height: float) -> "tuple[Figure, Axes]":
    """Returns a figure of this size in inches with one pair of axes."""
    require("matplotlib", "matplotlib", "Drawing a picture")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=9, colors=FAINT)
    axes.grid(visible=True, color="#eceff3", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def color_map(count: int) -> list[tuple[float, ...]]:
    """Returns different colors."""
    from matplotlib import colormaps

    return [tuple(colormaps["tab20" if count > 10 else "tab10"](number)) for number in range(count)]
