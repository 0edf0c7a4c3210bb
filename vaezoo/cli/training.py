"""What there is, training and measuring."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vaezoo.cli.app import Out, app, console


@app.command
def demo(*, out: Path = Path("demo"), seconds: float = 60.0) -> None:
    """Load beta-vae-mnist, draw and measure it, then train the tutorial's VAE for about a minute beside it.

    Parameters
    ----------
    out
        Folder for the pictures.
    seconds
        How long to train.
    """
    from vaezoo.workflows.demo import demo as run

    run(out, seconds, say=console().print)


@app.command
def train(
    recipe: str,
    *overrides: str,
    out: Out = None,
    resume: bool = False,
    any_size: bool = False,
    extend: bool = False,
    device: str = "auto",
    seed: int | None = None,
    tracker: Annotated[list[str] | None, Parameter(negative=())] = None,
) -> None:
    """Train by a recipe, into runs/NAME unless --out says otherwise.

    Several processes, on one machine or many: torchrun --nproc-per-node N -m vaezoo train RECIPE.

    Parameters
    ----------
    recipe
        Name of a recipe, or a path that ends in .toml.
    overrides
        Settings as key=value: train.steps=1000, beta=2.
    resume
        Go on from the newest valid checkpoint.
    any_size
        Go on even where another number of processes began.
    extend
        Go on, finished or not, with more steps in the last stage or stages after it; nothing else may have changed.
    device
        "auto", "cpu", "cuda", …
    seed
        Instead of the recipe's.
    tracker
        Also tell "tensorboard", "trackio" or "wandb"; may be repeated.
    """
    from vaezoo.workflows.train import train as run

    settings = [*overrides, *([] if seed is None else [f"seed={seed}"])]
    flags = {"resume": resume, "extend": extend, "any_size": any_size}
    done = run(recipe, *settings, out=out or "auto", device=device, trackers=["bar", *(tracker or [])], **flags)
    last = next((line for line in reversed(done.history) if "distortion" in line), {})
    figures = ", ".join(
        f"{key} {last[key]:.2f}" for key in ("bound", "distortion", "rate") if last.get(key) is not None
    )
    if os.environ.get("RANK", "0") == "0":
        console().print(f"Trained {recipe}: {figures} nats (training images). The model is in {done.folder}.")
