"""Commands that evaluate and compare models."""

# ruff: noqa: D417  # parameters with a type such as `Model` are described there
import sys

from vaezoo.cli.app import Data, Device, Model, Out, app, console, print_table, show_progress


@app.command
def evaluate(
    name: Model,
    *,
    data: Data = None,
    samples: int | None = None,
    limit: int | None = None,
    binarize: str | None = None,
    device: Device = "auto",
    write: bool = False,
    batch_size: int | None = None,
    disentanglement: bool = False,
) -> None:
    """Measure a model on a test set: bound, distortion, rate, log-evidence, PSNR, active units.

    Args:
        samples: K of the importance-weighted evidence; that of its published metrics by default, else 5000.
        limit: Number of examples, chosen from the test set with a fixed seed; all by default.
        binarize: "none", "dynamic" or "static"; that of the training data by default.
        write: Store the metrics in the model's folder.
        batch_size: Number of examples at a time, if memory runs out.
        disentanglement: Measure MIG, FactorVAE score and total correlation instead, on data with known factors
            such as dsprites.
    """
    from vaezoo.workflows.measure import measure, measure_disentanglement

    if disentanglement:
        console().print(measure_disentanglement(name, data=data, limit=limit, device=device), markup=False)
        return
    lines = measure(
        name,
        data=data,
        samples=samples,
        limit=limit,
        binarize=binarize,
        device=device,
        write=write,
        batch_size=batch_size,
        bar=show_progress,
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
    device: Device = "auto",
    out: Out = None,
) -> None:
    """Compare models in a table: pretrained names, run folders, and variants (trained first), or "all" variants.

    Args:
        names: Pretrained models, folders with a slash, variants such as vae or conv-vae+iwae, or all.
        variants: More variants, separated by commas, or all.
        data: Data set for evaluation, and for the training of variants.
        steps: Training steps of each variant.
        seeds: Runs of each variant.
        samples: K of the importance-weighted evidence.
        limit: Number of test images, chosen with a fixed seed.
        out: Folder for the table in Markdown, for two pictures (reconstructions of the same images, and
            samples) and for the runs; the same command continues a comparison that was stopped.
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
        drawn = drawings.comparisons({row.name: row.model for row in rows}, data, out)
        console().print(f"Wrote {comparing.write(lines, out)}, {drawn[0]} and {drawn[1]}")
