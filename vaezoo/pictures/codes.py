"""The use of codes."""

import os
from pathlib import Path

import torch

from vaezoo.core import VAE, as_part, evaluating, require
from vaezoo.errors import ShapeError
from vaezoo.evaluation.codebooks import levels_of
from vaezoo.evaluation.latents import encoded, perplexity
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.pictures.sheet import DPI, FAINT, INK, write

LINES = 8  # levels with a name in the legend


def code_use(model: VAE, data: object, path: str | os.PathLike[str], *, limit: int | None = None) -> Path:
    """Writes a histogram of how often each code is chosen, most frequent first, with a line for each level.

    A dashed line is the share of each of V codes that are used equally.

    Args:
        model: a model of codes.
        data: anything that `vaezoo.data.as_dataset` takes.
        path: the file to write, `….png`.
        limit: use at most so many examples, as in `evaluate`; None for all.

    Raises:
        ShapeError: the model has no codes.
    """
    chosen = limited(test_set(model, data), limit)[0]
    with evaluating(model):
        indices, _ = encoded(model, chosen)
    if indices is None:
        raise ShapeError(
            f"Got a model whose latents are no codes ({type(model.encoder).__name__}); expected one such as vq-vae. "
            "Draw a traversal instead."
        )
    levels = levels_of(model, indices)
    require("matplotlib", "matplotlib", "Drawing a picture")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    used = 0
    for number, level in enumerate(levels, 1):
        shares = (torch.bincount(level.flatten().cpu()).double() / level.numel()).sort(descending=True).values
        shares = shares[shares > 0]
        used += len(shares)
        name = f"level {number}" if len(levels) > 1 and number <= LINES else None
        axes.stairs(shares.numpy(), fill=len(levels) == 1, label=name, linewidth=1.6)
    codes = int(getattr(as_part(model.encoder), "codes", 0))
    if codes:
        axes.axhline(1.0 / codes, color=FAINT, linewidth=1.0, linestyle="--")
    mean = sum(map(perplexity, levels)) / len(levels)
    known = f" of {codes * len(levels):,}" if codes else ""
    axes.set_title(f"{used:,}{known} codes in use, perplexity {mean:,.0f}", fontsize=12, color=INK, loc="left")
    axes.set_xlabel("codes, by frequency", fontsize=11, color=FAINT)
    axes.set_ylabel("share", fontsize=11, color=FAINT)
    axes.set_yscale("log")
    axes.tick_params(labelsize=10, colors=FAINT)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(levels) > 1:
        axes.legend(fontsize=10, frameon=False)
    return write(figure, path)
