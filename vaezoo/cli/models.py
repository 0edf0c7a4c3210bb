"""What there is, training and measuring."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vaezoo.cli.app import Out, app, console, data_app, print_table


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
    from vaezoo.zoo.demo import demo as run

    run(out, seconds, say=console().print)


@app.command(name="list")
def list_(pattern: str = "*", *, variants: bool = False, recipes: bool = False) -> None:
    """List pretrained models (default), variants or recipes.

    Parameters
    ----------
    pattern
        Shell pattern that names must match.
    variants
        List the variants: what each changes, its rate, options, paper, and which models have weights.
    recipes
        List the recipes that come with the package.
    """
    from vaezoo.zoo import tables

    table = tables.variants if variants else tables.recipes if recipes else tables.models
    headings, rows = table(pattern)
    print_table(headings, rows)


@app.command
def show(name: str) -> None:
    """Show what is known of a pretrained model, a variant or a recipe.

    Parameters
    ----------
    name
        Of a pretrained model, a variant, or a recipe.
    """
    from vaezoo.zoo.tables import describe

    console().print(describe(name), markup=False)


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
    from vaezoo.zoo.reproduce import train as run

    settings = [*overrides, *([] if seed is None else [f"seed={seed}"])]
    flags = {"resume": resume, "extend": extend, "any_size": any_size}
    done = run(recipe, *settings, out=out or "auto", device=device, trackers=["bar", *(tracker or [])], **flags)
    last = next((line for line in reversed(done.history) if "distortion" in line), {})
    figures = ", ".join(
        f"{key} {last[key]:.2f}" for key in ("bound", "distortion", "rate") if last.get(key) is not None
    )
    if os.environ.get("RANK", "0") == "0":
        console().print(f"Trained {recipe}: {figures} nats (training images). The model is in {done.folder}.")


@app.command
def evaluate(
    name: str,
    *,
    data: str | None = None,
    samples: int | None = None,
    limit: int | None = None,
    binarize: str | None = None,
    device: str = "auto",
    write: bool = False,
    disentanglement: bool = False,
) -> None:
    """Measure a model on a test set: bound, distortion, rate, log-evidence, PSNR, active units.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    data
        Data set; the one it was trained on by default.
    samples
        K of the importance-weighted evidence; what its published figures used, else 5000.
    limit
        Only the first so many examples.
    binarize
        "none", "dynamic" or "static"; as it was trained by default.
    device
        Where to measure: auto takes a GPU where there is one.
    write
        Store the figures in the model's folder.
    disentanglement
        Measure MIG, FactorVAE score and total correlation instead, on data with known factors such as dsprites.
    """
    from vaezoo.zoo.measure import measure, measure_disentanglement

    if disentanglement:
        console().print(measure_disentanglement(name, data=data, limit=limit, device=device), markup=False)
        return
    lines = measure(
        name, data=data, samples=samples, limit=limit, binarize=binarize, device=device, write=write, bar=progress
    )
    console().print(lines, markup=False)


@app.command
def compare(
    *names: str,
    variants: str | None = None,
    data: str = "mnist",
    steps: int = 2000,
    seeds: int = 1,
    samples: int = 500,
    limit: int = 1000,
    device: str = "auto",
    out: Out = None,
) -> None:
    """Put models side by side: pretrained names, run folders, and variants (trained first), or "all" variants.

    Parameters
    ----------
    names
        Pretrained models, folders with a slash, variants such as vae or conv-vae+iwae, or all.
    variants
        More variants, with commas between them, or all.
    data
        Data set to measure on, and to train variants on.
    steps
        Training steps of each variant.
    seeds
        Runs of each variant.
    samples
        K of the importance-weighted evidence.
    limit
        How many test images.
    device
        Where to train and measure: auto takes a GPU where there is one.
    out
        Folder for the table in Markdown, for two pictures, the same images under each model and samples of each,
        and for the runs: the same command goes on where it was stopped.
    """
    from vaezoo.zoo import compare as comparing
    from vaezoo.zoo import drawings

    lines = list(comparing.compare(
        [*names, *(["all"] if variants == "all" else variants.split(",") if variants else [])],
        data=data, steps=steps, seeds=seeds, samples=samples, limit=limit, device=device,
        out=None if out is None else out / "runs", report=lambda name: print(f"… {name}", file=sys.stderr),
    ))  # fmt: skip
    print_table(comparing.headings(lines), comparing.table(lines))
    rows = [line for line in lines if isinstance(line, comparing.Row)]
    if rows:
        console().print(comparing.measured_on(rows))
    if rows and out is not None:
        models = {row.name: row.model for row in rows}
        drawn = drawings.comparison(models, data, out), drawings.sample_grids(models, out)
        console().print(f"Wrote {comparing.write(lines, out)}, {drawn[0]} and {drawn[1]}")


@data_app.command(name="get")
def data_get(name: str) -> None:
    """Fetch and verify a data set.

    Parameters
    ----------
    name
        "mnist" or "fashion-mnist".
    """
    from vaezoo.data import get

    out = console()
    for path in get(name, report=out.print):
        out.print(f"{path}  (SHA-256 verified)")


@data_app.command(name="list")
def data_list() -> None:
    """List the data sets that have a name."""
    from vaezoo.data import datasets

    for name in [*datasets.names(), "folder:PATH", "torchvision:NAME"]:
        console().print(name)


def progress(done: int, total: int) -> None:
    """Shows on a terminal how far a long measurement is."""
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,} examples", end="\n" if done == total else "", file=sys.stderr, flush=True)
