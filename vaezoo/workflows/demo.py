"""The demo: pictures and metrics of a pretrained model, and of one that is trained for a minute."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vaezoo import pictures
from vaezoo.core import VAE
from vaezoo.data import Dataset, binarize, bundled_images, load_dataset
from vaezoo.errors import ConfigError, DownloadError
from vaezoo.evaluation import evaluate
from vaezoo.evaluation.test_sets import limited
from vaezoo.workflows.load import load
from vaezoo.workflows.train import Around, train

PRETRAINED = "beta-vae-mnist"
TUTORIAL = "tutorial-vae-mnist"
IMAGES = 12  # in a picture
TRIAL_STEPS = 200  # steps to estimate the speed


def demo(
    out: Path,
    seconds: float = 60.0,
    *,
    report: Callable[[str], None] = print,
    progress: Callable[[int, int], None] | None = None,
    around: Around | None = None,
) -> None:
    """Draws and evaluates a pretrained model, trains the tutorial's recipe for about `seconds`, and compares the two.

    Calls `report` with lines of text, and `progress` with the numbers of evaluated images and of all images.
    `around` is that of `vaezoo.train`.
    """
    if not 0 < seconds < math.inf:
        raise ConfigError(f"Got seconds = {seconds}; expected a positive number.")
    model = load(PRETRAINED)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    report(f"1. Loaded the pretrained model {PRETRAINED} with {parameters:,} parameters.")
    training, test = mnist(report)
    report(f"2. Read MNIST: {len(training):,} training and {len(test):,} test images.")
    x = limited(test, IMAGES)[0].batch(torch.arange(IMAGES))
    files = [
        pictures.reconstructions(model, x, out / "reconstructions.png"),
        pictures.samples(model, 40, out / "samples.png"),
        pictures.traversal(model, x[:1], out / "traversal.png"),
    ]
    report("3. Drew reconstructions of test images, samples, and the effect of each latent.")
    reports = {PRETRAINED: evaluate(model, test, samples=0, report=progress)}
    report("4. Evaluated the model on the test images.")
    report(f"5. Training {TUTORIAL} for about {seconds:.0f} s …")
    trained = train_for(seconds, training, around)
    reports[TUTORIAL] = evaluate(trained, test, samples=0, report=progress)
    columns = {"original": x, PRETRAINED: model.reconstruct(x), TUTORIAL: trained.reconstruct(x)}
    files.append(pictures.comparison(columns, out / "side-by-side.png"))
    files.append(pictures.samples(trained, 40, out / "tutorial-samples.png"))
    report("6. Trained, evaluated and drew it.")
    report("\nOn the test images, in nats per image (the bound is higher for a better model):")
    for name, figures in reports.items():
        values = [f"{key} {getattr(figures, key).mean:.2f}" for key in ("bound", "distortion", "rate")]
        report(f"  {name:20}{', '.join(values)}")
    report("\n  ".join(["\nThe pictures:", *map(str, files)]))


def mnist(report: Callable[[str], None]) -> tuple[Dataset, Dataset]:
    """Returns training and test images, binarized; the 64 bundled ones for both if MNIST cannot be downloaded."""
    try:
        training, test = load_dataset("mnist", "train"), load_dataset("mnist", "test")
    except DownloadError as error:
        report(f"MNIST could not be downloaded; the 64 bundled test images take its place. {error}")
        training = test = bundled_images()
    return binarize(training, "dynamic"), binarize(test, "dynamic")


def train_for(seconds: float, data: Dataset, around: Around | None = None) -> VAE:
    """Returns the tutorial's model, trained for about `seconds`; a short trial estimates how many steps that are."""
    start = time.perf_counter()
    train(TUTORIAL, data=data, out=None, trackers=(), steps=TRIAL_STEPS, validation=0, around=around)
    spent = time.perf_counter() - start
    steps = max(TRIAL_STEPS, int(0.9 * TRIAL_STEPS / spent * (seconds - spent)))
    return train(TUTORIAL, data=data, out=None, steps=steps, validation=0, around=around).model
