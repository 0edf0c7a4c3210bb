"""Pictures of models, which are given by name."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vaezoo import pictures
from vaezoo.core import VAE
from vaezoo.data import bundled_images
from vaezoo.errors import ConfigError, DataError
from vaezoo.evaluation.batches import context_of
from vaezoo.evaluation.report import test_set
from vaezoo.workflows.fit_sampler import fit_sampler, load_sampler, saved_samplers
from vaezoo.workflows.load import load, locate
from vaezoo.workflows.measure import data_of

IMAGES = 16  # of each model in a picture of several


def some_images(model: VAE, data: str | None, n: int) -> tuple[Tensor, Tensor | None]:
    """Returns the first `n` test images, padded and binarized for the model, and their contexts.

    Raises:
        DataError: the test set has fewer images.
    """
    name = data_of(model, data)
    if n < 1:
        raise DataError(f"Got {n} images to draw; expected at least 1.")
    # The first 64 of MNIST are in the package: they need no download.
    chosen = test_set(model, bundled_images() if name == "mnist" and n <= 64 else name)
    if n > len(chosen):
        raise DataError(f"Got {n} images to draw; {name!r} has {len(chosen)} test images.")
    context = context_of(model, chosen)
    return chosen.batch(torch.arange(n)), None if context is None else context[:n]


def target(out: Path, name: str, what: str) -> Path:
    """Returns the path of a picture of a model: `out` if it ends in .png, else a file in this folder."""
    if out.suffix.lower() == ".png" and not out.is_dir():
        return out
    return out / f"{Path(name.removeprefix('hf:').replace('@', '-')).name}-{what}.png"


def samples(name: str, n: int, c: int | None, seed: int, out: Path, sampler: str | None = None) -> Path:
    """Draws `n` samples; those of a conditional model use the classes in turn unless `c` is given.

    A `sampler` is the one that is saved with the model, or else is fitted to the training data.
    """
    if sampler is not None:
        if c is not None:
            raise ConfigError("Got a class and a sampler; expected one: samplers are for models without classes.")
        if sampler in saved_samplers(locate(name)):
            fitted = load_sampler(name, sampler)
        else:
            model = load(name)
            fitted = fit_sampler(model, data_of(model, None), sampler, seed=seed)
        return pictures.grid(fitted.sample(n, seed=seed), target(out, name, f"{sampler}-samples"))
    model = load(name)
    context = torch.arange(n) % model.context if model.context and c is None else c
    return pictures.samples(model, n, target(out, name, "samples"), context, seed)


def reconstructions(name: str, n: int, data: str | None, out: Path) -> Path:
    """Draws `n` test images above their reconstructions."""
    model = load(name)
    x, c = some_images(model, data, n)
    return pictures.reconstructions(model, x, target(out, name, "reconstructions"), c)


def traversal(name: str, index: int, dims: list[int] | None, data: str | None, out: Path) -> Path:
    """Draws the effect of each latent on test image number `index`."""
    if index < 0:
        raise DataError(f"Got image number {index}; expected 0 or more.")
    model = load(name)
    x, c = some_images(model, data, index + 1)
    own = None if c is None else c[-1:]
    return pictures.traversal(model, x[-1:], target(out, name, "traversal"), dims, c=own)


def interpolation(name: str, pairs: int, steps: int, data: str | None, out: Path) -> Path:
    """Draws interpolations between pairs of test images, in the context of the first image of each pair."""
    model = load(name)
    x, c = some_images(model, data, 2 * pairs)
    own = None if c is None else c[::2]
    return pictures.interpolation(model, x.unflatten(0, (pairs, 2)), target(out, name, "interpolation"), steps, own)


def comparisons(models: Mapping[str, VAE], data: str, out: Path) -> tuple[Path, Path]:
    """Draws reconstructions of the same test images, and samples, of each model; classes are used in turn."""
    reconstructed, sampled = dict[str, Tensor](), dict[str, Tensor]()
    for name, model in models.items():
        x, c = some_images(model, data, IMAGES)
        reconstructed.setdefault("original", x)
        reconstructed[name] = model.reconstruct(x.to(next(model.parameters()).device), c).cpu()
        context = torch.arange(IMAGES) % model.context if model.context else None
        sampled[name] = model.sample(IMAGES, context, seed=0).cpu()
    return pictures.comparison(reconstructed, out / "comparison.png"), pictures.comparison(sampled, out / "samples.png")
