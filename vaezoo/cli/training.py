"""Commands that train models, and the demo."""

# ruff: noqa: D417  # parameters with a type such as `Model` are described there
import json
import logging
import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vaezoo.cli.app import Device, Out, app, console
from vaezoo.cli.progress import ShownProgress


@app.command
def demo(*, out: Path = Path("demo"), seconds: float = 60.0, threads: int | None = None, verbose: bool = False) -> None:
    """Draw and evaluate a pretrained model, then train the tutorial's VAE for about a minute.

    Args:
        out: Folder for the pictures.
        seconds: Duration of the training.
        threads: Number of threads of the training, as in `train`.
        verbose: Also print details, such as the sources of downloads.
    """
    from vaezoo.cli.threads import thread_setter
    from vaezoo.workflows.demo import demo as run

    if verbose:
        logging.getLogger("vaezoo").setLevel(logging.DEBUG)
    with closing(ShownProgress("image")) as bar:
        run(out, seconds, report=console().print, progress=bar, around=thread_setter(threads))


@app.command
def train(
    recipe: str,
    *overrides: str,
    data: Annotated[
        str | None, Parameter(help="Data set, in place of the recipe's: a name, folder:PATH or series:FILE.")
    ] = None,
    out: Out = None,
    resume: bool = False,
    any_size: bool = False,
    extend: bool = False,
    device: Device = "auto",
    seed: int | None = None,
    tracker: Annotated[list[str] | None, Parameter(negative=())] = None,
    threads: int | None = None,
) -> None:
    """Train by a recipe; writes to runs/NAME by default.

    Several processes, on one machine or many: torchrun --nproc-per-node N -m vaezoo train RECIPE.

    Args:
        recipe: Name of a recipe, a path that ends in .toml, or the folder of a run, which is trained again; with
            --data also the name of a variant.
        overrides: Settings as key=value: train.steps=1000, beta=2.
        resume: Continue from the newest valid checkpoint.
        any_size: Continue also with another number of processes.
        extend: Continue a run, finished or not, with more steps in the last stage or with more stages; nothing
            else may change.
        seed: Replaces the seed of the recipe.
        tracker: Also send metrics to "tensorboard", "trackio" or "wandb"; may be repeated.
        threads: Number of threads on a CPU; by default OMP_NUM_THREADS, or else chosen by the size of the model.
    """
    from vaezoo.cli.threads import thread_setter
    from vaezoo.workflows.train import train as run

    around = thread_setter(threads)
    named = [] if data is None else [f"data.name={json.dumps(data, ensure_ascii=False)}"]
    settings = [*overrides, *named, *([] if seed is None else [f"seed={seed}"])]
    flags = {"resume": resume, "extend": extend, "any_size": any_size}
    trackers = ["bar", *(tracker or [])]
    done = run(recipe, *settings, out=out or "auto", device=device, trackers=trackers, around=around, **flags)
    if os.environ.get("RANK", "0") == "0":
        console().print(f"Trained {recipe}: {done.summary}. The model is in {done.folder}.")
