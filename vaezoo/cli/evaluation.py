"""Commands that measure models and compare them."""

from __future__ import annotations

import sys

from vaezoo.cli.app import Out, app, console, print_table


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
    from vaezoo.workflows.measure import measure, measure_disentanglement

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
    from vaezoo.workflows import compare as comparing
    from vaezoo.workflows import draw as drawings

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


def progress(done: int, total: int) -> None:
    """Shows on a terminal how far a long measurement is."""
    if sys.stderr.isatty():
        print(f"\r{done:,} of {total:,} examples", end="\n" if done == total else "", file=sys.stderr, flush=True)
