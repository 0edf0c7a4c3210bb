"""The demo: what a pretrained model does, and a training run of a minute beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vaezoo import pictures
from vaezoo.core import VAE
from vaezoo.data import Dataset, binarize, bundled_images, load_dataset
from vaezoo.errors import ConfigError, DownloadError
from vaezoo.evaluation import Report, evaluate
from vaezoo.recipe import Recipe, read_recipe
from vaezoo.workflows.compare import estimate_cells
from vaezoo.workflows.load import load
from vaezoo.workflows.train import train

__all__ = ["demo"]

PRETRAINED = "beta-vae-mnist"
TUTORIAL = "tutorial-vae-mnist"
SHOWN = 12  # images in a row of a picture
TRIAL_STEPS = 200  # steps that tell how many fit into the time


def demo(out: Path, seconds: float = 60.0, *, say: Callable[[str], None] = print) -> dict[str, Report]:
    """Draws and measures a pretrained model, trains the tutorial's recipe for a while, and puts both side by side.

    Args:
        out: folder for the pictures.
        seconds: how long to train, roughly.
        say: hears what happens.

    Returns:
        The figures of both models on the test images.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(f"Got seconds = {seconds}; expected a positive number.")
    model = load(PRETRAINED)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(f"Loaded {PRETRAINED}: latents {model.latent}, {parameters:,} parameters.")
    training, test = mnist(say)
    x = test.batch(torch.arange(SHOWN))
    for path in (
        pictures.reconstructions(model, x, out / "reconstructions.png"),
        pictures.samples(model, 40, out / "samples.png"),
        pictures.traversal(model, x[:1], out / "traversal.png"),
    ):
        say(f"Wrote {path}")
    reports = {PRETRAINED: evaluate(model, test, samples=0)}
    say(f"Measured it on {len(test):,} test images: {figures(reports[PRETRAINED])}")
    say(f"Training {TUTORIAL} on {len(training):,} images for about {seconds:.0f} s …")
    trained = train_for(seconds, training)
    reports[TUTORIAL] = evaluate(trained, test, samples=0)
    columns = {"original": x, PRETRAINED: model.reconstruct(x), TUTORIAL: trained.reconstruct(x)}
    say(f"Wrote {pictures.comparison(columns, out / 'side-by-side.png')}")
    say(f"Wrote {pictures.samples(trained, 40, out / 'tutorial-samples.png')}")
    say("On the same test images:")
    for name, report in reports.items():
        say(f"  {name:20} {figures(report)}")
    return reports


def mnist(say: Callable[[str], None]) -> tuple[Dataset, Dataset]:
    """Returns training and test images, binarized; the 64 bundled ones for both when nothing can be downloaded."""
    try:
        training, test = load_dataset("mnist", "train"), load_dataset("mnist", "test")
    except DownloadError as error:
        say(f"No MNIST here; going on with the 64 bundled test images, for training too. {error}")
        training = test = bundled_images()
    return binarize(training, "dynamic"), binarize(test, "dynamic")


def train_for(seconds: float, data: Dataset) -> VAE:
    """Returns the tutorial's model, trained for about `seconds`: a short trial tells how many steps fit."""
    start = time.perf_counter()
    train(tutorial(TRIAL_STEPS), data=data, out=None, trackers=())
    rate = TRIAL_STEPS / (time.perf_counter() - start)
    steps = max(TRIAL_STEPS, int(0.9 * rate * (seconds - (time.perf_counter() - start))))
    return train(tutorial(steps), data=data, out=None).model


def tutorial(steps: int) -> Recipe:
    """Returns the tutorial's recipe for a number of steps, all of the data used for training."""
    return read_recipe(TUTORIAL, steps=steps, validation=0)


def figures(report: Report) -> str:
    """Returns a report's main figures in one line."""
    active = f"{report.active_units} of {report.latents} latents active"
    parts = {key: estimate_cells(getattr(report, key)) for key in ("bound", "distortion", "rate")}
    return ", ".join(f"{key} {value}" for key, value in parts.items()) + f" nats, PSNR {report.psnr:.1f} dB, {active}"
