"""Commands that evaluate and compare models."""

# ruff: noqa: D417  # parameters with a type such as `Model` are described there
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from cyclopts import Parameter

from vaezoo.cli.app import (
    Csv,
    Data,
    Device,
    Json,
    Model,
    Out,
    app,
    console,
    interruptible,
    print_records,
    print_tables,
)
from vaezoo.cli.progress import ShownProgress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vaezoo.workflows.comparison import Comparison, Failure, Row

DISAGREEMENT = 3  # the exit status of `reproduce` if a figure differs
FASTER = "--samples 500 takes less time; the log-evidence rises with K, so compare it only at equal K."


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
    thorough: bool = False,
    disentanglement: bool = False,
    code_use: Path | None = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Measure a model on a test set: bound, distortion, rate, log-evidence, PSNR, active units.

    Args:
        samples: K of the importance-weighted evidence; that of its published metrics by default, else 5000.
        limit: Number of examples, chosen from the test set with a fixed seed; all by default.
        binarize: "none", "dynamic" or "static"; that of the training data by default.
        write: Store the metrics in the model's folder.
        batch_size: Number of examples at a time, if memory runs out.
        thorough: Measure also what takes longer: the terms of the rate, precision and recall of samples, classifiers of
            the latents, path length, and an interval of the log-evidence.
        disentanglement: Measure MIG, FactorVAE score and total correlation instead, on data with known factors
            such as dsprites.
        code_use: Draw how often each code is chosen into this folder or .png file, for a model of codes.
    """
    from vaezoo.workflows.measure import measure, measure_disentanglement

    nothing = interruptible("no figures were written")
    if disentanglement:
        with nothing:
            scores = measure_disentanglement(name, data=data, limit=limit, device=device)
        console().print(scores, markup=False)
        return
    with nothing, closing(ShownProgress("draw", FASTER if samples is None else "")) as bar:
        found = measure(
            name, data=data, samples=samples, limit=limit, binarize=binarize, device=device, write=write,
            batch_size=batch_size, thorough=thorough, bar=bar,
        )  # fmt: skip
    if not print_records([found.record()], json=json, csv=csv):
        console().print(found.text(), markup=False)
    if code_use is not None:
        print_code_use(name, data, code_use, limit, sys.stderr if json or csv else sys.stdout)


def print_code_use(name: str, data: str | None, out: Path, limit: int | None, stream: TextIO) -> None:
    """Draws how often each code is chosen, and prints the path of the picture."""
    from vaezoo.workflows import draw as drawings

    print(f"Wrote {drawings.code_use(name, data, out, limit=limit)}", file=stream)


@app.command
def latents(
    name: Model,
    data: Data = None,
    *,
    split: str = "train",
    noise: bool = True,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    write: bool = False,
    per_channel: bool = False,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure a model's latents, and the factors that normalize them for diffusion and other models.

    Args:
        split: Split of the data set.
        noise: Measure draws of the posterior (the default), or its centers.
        limit: Number of examples, chosen with a fixed seed; all by default.
        seed: Seed of all draws.
        batch_size: Number of examples at a time, if memory runs out.
        write: Store scaling_factor and shift_factor in the model's folder, for model.latents(x, scaled=True).
        per_channel: Store the factors of each channel instead of the scalar ones.
    """
    from vaezoo.workflows.latents import measure_latents

    with closing(ShownProgress("example")) as bar:
        found = measure_latents(
            name,
            data=data,
            split=split,
            noise=noise,
            limit=limit,
            seed=seed,
            batch_size=batch_size,
            write=write,
            per_channel=per_channel,
            device=device,
            bar=bar,
        )
    if not print_records([found.record()] if json else [], json=json, csv=False):
        console().print(found.text(), markup=False)


@app.command
def embed(
    name: Model,
    data: str,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    split: str = "all",
    scaled: bool = False,
    binarize: str | None = None,
    batch_size: int | None = None,
    device: Device = "auto",
) -> None:
    """Write the latents of a data set into a file, with labels and file names; an interrupted call continues.

    Args:
        data: Data set, such as mnist or folder:PATH; also one larger than memory.
        out: A new file that ends in .npz, .safetensors or .parquet (needs vaezoo[parquet]).
        split: Split of the data set.
        scaled: Normalize the latents by the factors that `vaezoo latents --write` stored.
        binarize: "none", "dynamic" or "static"; that of the training data by default.
        batch_size: Number of examples at a time, if memory runs out.
    """
    from vaezoo.workflows.embed import embed as run

    with interruptible("the same command continues"), closing(ShownProgress("example")) as bar:
        path = run(
            name, data, out, split=split, scaled=scaled, binarize=binarize, batch_size=batch_size, device=device,
            bar=bar,
        )  # fmt: skip
    console().print(f"Wrote {path}")


@app.command
def reproduce(
    name: Model,
    *,
    train: bool = False,
    samples: int | None = None,
    limit: int | None = None,
    tolerance: float | None = None,
    device: Device = "auto",
    out: Out = None,
    resume: bool = False,
    threads: int | None = None,
    json: Json = False,
) -> None:
    """Measure a model again as its recorded figures were measured, and compare; or train it again first.

    The exit status is 0 if all figures agree, 3 if one differs by more than the tolerance, and 1 after an error.

    Args:
        train: Train the model again by its recipe, then measure the new one.
        samples: K of the importance-weighted evidence, if not the recorded one; figures that depend on K are then not
            compared. 0 leaves the evidence out.
        limit: Number of test images, a part of the recorded ones; figures without a standard error are then not
            compared.
        tolerance: Largest difference that agrees: in standard errors, and in percent of a figure that has none. By
            default 1, and 3 with --train or --limit.
        out: Folder of the new training; runs/NAME by default.
        resume: Continue the new training from its newest checkpoint.
        threads: Number of threads of the training, as in `train`.
    """
    from vaezoo.cli.threads import thread_setter
    from vaezoo.workflows.reproduce import reproduce as run

    hint = "--limit 1000 compares fewer images, in less time." if limit is None else ""
    with interruptible("nothing was compared"), closing(ShownProgress("draw", hint)) as bar:
        found = run(
            name, train=train, samples=samples, limit=limit, tolerance=tolerance, device=device, out=out or "auto",
            resume=resume, bar=bar, around=thread_setter(threads),
        )  # fmt: skip
    if not print_records([found.record()] if json else [], json=json, csv=False):
        print_tables([found.table()])
    if not found.agrees:
        raise SystemExit(DISAGREEMENT)


@app.command
def compare(
    *names: str,
    variants: str | None = None,
    data: str | None = None,
    steps: int = 2000,
    seeds: int = 1,
    samples: int = 500,
    limit: int = 1000,
    size: int | None = None,
    likelihood: str | None = None,
    device: Device = "auto",
    out: Out = None,
    threads: int | None = None,
    json: Json = False,
    csv: Csv = False,
) -> None:
    """Compare models in a table: pretrained names, run folders, and variants (trained first), or "all" variants.

    Args:
        names: Pretrained models, folders with a slash, variants such as vae or conv-vae+iwae, or all.
        variants: More variants, separated by commas, or all.
        data: Data set for evaluation, and for the training of variants; by default that which all of the trained
            models were trained on, or else mnist.
        steps: Training steps of each variant.
        seeds: Runs of each variant.
        samples: K of the importance-weighted evidence.
        limit: Number of test images, chosen with a fixed seed.
        size: Pixels of square images, to which those of the trained variants are scaled and cropped.
        likelihood: Of the trained variants, such as discretized-logistic for colors; the default of each otherwise,
            which is bernoulli, on binarized images, for most; so are those of autoregressive-bernoulli.
        out: Folder for the table in Markdown, JSON and CSV, for two pictures (reconstructions of the same images,
            and samples) and for the runs; comparisons/NAMES by default. The same command continues a comparison
            that was stopped.
        threads: Number of threads of the trainings, as in `train`.
    """
    from vaezoo.cli.threads import thread_setter
    from vaezoo.workflows import compare as comparing

    wanted = [*names, *(["all"] if variants == "all" else variants.split(",") if variants else [])]
    data = data or comparing.common_data(wanted)
    # Any: each option has its own type
    chosen: dict[str, Any] = {"data": data, "steps": steps, "seeds": seeds, "samples": samples, "limit": limit}
    chosen |= {key: value for key, value in {"size": size, "likelihood": likelihood}.items() if value is not None}
    folder = out or comparing.default_folder(wanted, **chosen)
    lines = comparing.compared(
        wanted, **chosen, device=device, out=folder / "runs", around=thread_setter(threads),
        report=lambda name: print(f"… {name}", file=sys.stderr),
    )  # fmt: skip
    found, page = written(lines, folder)
    show_comparison(found, page, data, folder, json=json, csv=csv)


def show_comparison(found: "Comparison", page: Path, data: str, folder: Path, *, json: bool, csv: bool) -> None:
    """Prints the tables or records of a comparison, and draws its pictures; `page` is its written table."""
    if not print_records(found.records() if json or csv else [], json=json, csv=csv):
        print_tables(found.tables())
        for note in found.notes:
            console().print(note, markup=False)
    files = [page, *pictures_of(found.rows, data, folder)]
    print(f"Wrote {', '.join(map(str, files))}", file=sys.stderr if json or csv else sys.stdout)
    if not found.rows:
        raise SystemExit(1)  # no model could be compared


def written(lines: "Iterable[Row | Failure]", folder: Path) -> "tuple[Comparison, Path]":
    """Returns the comparison of all lines, and its page in `folder`, which is written after each of them."""
    from vaezoo.workflows.comparison import Comparison

    found = Comparison([])
    with interruptible(f"the same command continues with the runs in {folder / 'runs'}"):
        for line in lines:
            found.lines.append(line)
            page = found.write(folder)  # what is done stays if a later model is interrupted
    return found, page


def pictures_of(rows: "Sequence[Row]", data: str, folder: Path) -> list[Path]:
    """Draws the models that have images of the same shape as the first one; names the others."""
    from vaezoo.data import SeriesLayout, layout_of
    from vaezoo.workflows.draw import comparisons

    models = {row.name: row.model for row in rows if row.model.shape == rows[0].model.shape}
    if any(isinstance(layout_of(model), SeriesLayout) for model in models.values()):
        print("Pictures of several models are drawn for images alone.", file=sys.stderr)
        return []
    if left := [row.name for row in rows if row.name not in models]:
        print(f"The pictures leave out models of other shapes: {', '.join(left)}.", file=sys.stderr)
    return [*comparisons(models, data, folder)] if models else []
