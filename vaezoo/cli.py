"""The commands. No logic of its own: each calls one function of the library and prints what it returns."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaezoo.errors import VaezooError

__all__ = ["main"]

app = App(
    name="vaezoo",
    help="A zoo of variational autoencoders: load, train and compare them. All figures in nats per example.",
    version=lambda: __import__("vaezoo").__version__,
    result_action="return_value",
)
data_app = App(name="data", help="Data sets by name.")
app.command(data_app)

Out = Annotated[Path | None, Parameter(help="Folder to write to.")]
T = TypeVar("T")
Listed = Annotated[list[T] | None, Parameter(consume_multiple=True, negative=())]  # --decoder fc3 fc4
PICTURES = Path("pictures")


def console() -> Console:
    """Returns the console that results are printed on; wide where the output is a file."""
    return Console(width=None if sys.stdout.isatty() else 160, soft_wrap=not sys.stdout.isatty(), highlight=False)


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
        Go on, finished or not, with more steps in the last stage; nothing else may have changed.
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
def sample(
    name: str,
    n: int = 64,
    *,
    c: int | None = None,
    sampler: str | None = None,
    seed: int = 0,
    out: Path = PICTURES,
) -> None:
    """Draw samples into a picture.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    n
        How many.
    c
        Class of a conditional model; all in turn by default.
    sampler
        Instead of the prior: "normal", "gaussian-mixture", …; fitted now unless it is saved beside the model.
    """
    from vaezoo.zoo import drawings

    console().print(f"Wrote {drawings.samples(name, n, c, seed, out, sampler)}")


@app.command
def fit_sampler(
    name: str, sampler: str, *options: str, data: str | None = None, seed: int = 0, out: Out = None
) -> None:
    """Fit a sampler on a model's latents and keep it beside the model.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    sampler
        "normal", "gaussian-mixture", …
    options
        The sampler's own, as key=value: components=20.
    data
        Data set; the one it was trained on by default.
    out
        Folder for model and sampler; the model's own by default.
    """
    from vaezoo.zoo.sampling import fit_and_save

    console().print(f"Wrote {fit_and_save(name, sampler, options, data=data, seed=seed, out=out)}")


@app.command
def reconstruct(name: str, n: int = 16, *, data: str | None = None, out: Path = PICTURES) -> None:
    """Draw test images above their reconstructions.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    n
        How many images.
    data
        Data set; the one it was trained on by default.
    """
    from vaezoo.zoo import drawings

    console().print(f"Wrote {drawings.reconstructions(name, n, data, out)}")


@app.command
def traverse(
    name: str, *, index: int = 0, dims: list[int] | None = None, data: str | None = None, out: Path = PICTURES
) -> None:
    """Draw what each latent changes, from one test image.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    index
        Which test image.
    dims
        Which latents; the most active by default.
    """
    from vaezoo.zoo import drawings

    console().print(f"Wrote {drawings.traversal(name, index, dims, data, out)}")


@app.command
def interpolate(name: str, *, pairs: int = 6, steps: int = 10, data: str | None = None, out: Path = PICTURES) -> None:
    """Draw the way from one test image to another through the latents.

    Parameters
    ----------
    name
        Pretrained model, folder or hf:owner/name.
    pairs
        How many pairs of images.
    steps
        Images a row.
    """
    from vaezoo.zoo import drawings

    console().print(f"Wrote {drawings.interpolation(name, pairs, steps, data, out)}")


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
    steps
        Training steps of each variant.
    seeds
        Runs of each variant.
    samples
        K of the importance-weighted evidence.
    limit
        How many test images.
    out
        Folder for two pictures: the same images under each model, and samples of each.
    """
    from vaezoo.zoo import compare as comparing
    from vaezoo.zoo import drawings

    lines = list(comparing.compare(
        [*names, *(["all"] if variants == "all" else variants.split(",") if variants else [])],
        data=data, steps=steps, seeds=seeds, samples=samples, limit=limit, device=device,
        report=lambda name: print(f"… {name}", file=sys.stderr),
    ))  # fmt: skip
    print_table(comparing.HEADINGS, comparing.table(lines))
    rows = [line for line in lines if isinstance(line, comparing.Row)]
    if rows:
        console().print(comparing.measured_on(rows[0].report))
    if rows and out is not None:
        models = {row.name: row.model for row in rows}
        console().print(f"Wrote {drawings.comparison(models, data, out)} and {drawings.sample_grids(models, out)}")


@app.command
def push(
    *names: str,
    owner: str,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
) -> None:
    """Publish evaluated models on the Hugging Face Hub, as OWNER/NAME each.

    Parameters
    ----------
    names
        Pretrained models or model folders.
    owner
        Your name there, or an organisation's.
    everything
        All bundled models.
    private
        Make new repositories private.
    revision
        The branch.
    message
        The first line of the commit.
    dry_run
        Check everything and send nothing.
    """
    from vaezoo.hub import publishing

    for name in publishing.chosen(names, everything):
        place = publishing.push(
            name,
            f"{owner}/{Path(name).name}",
            private=private,
            revision=revision,
            commit_message=message,
            dry_run=dry_run,
        )
        console().print(f"{name}: {'would be ' if dry_run else ''}{place}")


@app.command
def pull(name: str, *, revision: str | None = None, to: Path | None = None) -> None:
    """Fetch a model from the Hugging Face Hub into the cache, and check it.

    Parameters
    ----------
    name
        Pretrained model, or hf:owner/name.
    revision
        A branch, a tag or a commit.
    to
        Folder to copy it to.
    """
    from vaezoo import hub

    console().print(f"{hub.pull(name, revision=revision, to=to)}")


@app.command
def verify() -> None:
    """Read every byte of the bundled models and of those in the Hub's cache again; exit status 1 if any is damaged."""
    from vaezoo import hub

    console().print(f"{hub.verify(say=console().print)} models are whole.")


@app.command
def cache(*, remove: str | None = None) -> None:
    """List the models in the Hub's cache, or remove one.

    Parameters
    ----------
    remove
        hf:owner/name, hf:owner/name@COMMIT or a pretrained model.
    """
    from vaezoo import hub

    if remove is not None:
        console().print(f"Freed {hub.remove(remove) / 1e6:.1f} MB.")
    rows = [(str(copy), f"{copy.size / 1e6:.1f} MB") for copy in hub.cached()]
    print_table(("model", "size"), rows)


@app.command
def convert(
    source: Path,
    *,
    to: Path,
    shape: Listed[int] = None,
    encoder: Listed[str] = None,
    mean: str | None = None,
    log_variance: str | None = None,
    log_scale: str | None = None,
    decoder: Listed[str] = None,
    activation: str | None = None,
    likelihood: str | None = None,
    scale: float | None = None,
) -> None:
    """Make a model folder of another project's weights, exactly or not at all; none of its code is run.

    A pythae folder and a state dict of PyTorch's examples/vae are recognised; of any other VAE of fully connected
    layers, name the layers: --shape 1 28 28 --encoder fc1 --mean fc21 --log-variance fc22 --decoder fc3 fc4
    --activation relu --likelihood bernoulli.

    Parameters
    ----------
    source
        State dict (.pt of torch.save, or .safetensors), or pythae folder.
    to
        Folder to write, new or empty.
    shape
        Of one x: 1 28 28.
    encoder
        Hidden layers in order.
    mean
        Layer of the posterior's mean.
    log_variance
        Layer of log σ²; the same as --mean where one layer gives both.
    log_scale
        Layer of log σ, instead.
    decoder
        Hidden layers in order, the output layer last.
    activation
        relu, tanh, silu, gelu, elu or leaky-relu.
    likelihood
        bernoulli (the output goes through a sigmoid) or gaussian (it is the mean).
    scale
        σ of gaussian; 1 unless said.
    """
    from vaezoo.conversion import convert as run

    done = run(
        source,
        to,
        shape=shape,
        encoder=encoder or (),
        mean=mean,
        log_variance=log_variance,
        log_scale=log_scale,
        decoder=decoder or (),
        activation=activation,
        likelihood=likelihood,
        scale=scale,
    )
    console().print(str(done), markup=False)


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


def print_table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Prints a table."""
    table = Table(*headings)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Prints a warning as one line, without a place in the code."""
    print(f"warning: {message}", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns 0, or 1 after an error, 2 after a wrong call, 130 after Ctrl-C, 143 after SIGTERM."""
    warnings.showwarning = show_warning
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(format="%(message)s")
    # Our own lines only: other libraries log every request.
    logging.getLogger("vaezoo").setLevel(logging.INFO if first else logging.WARNING)
    try:
        app(arguments, exit_on_error=True)
    except VaezooError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
