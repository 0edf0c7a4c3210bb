"""Pictures of models by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vaezoo import pictures
from vaezoo.core import VAE
from vaezoo.data import Dataset, binarize, bundled_images, pad
from vaezoo.errors import ConfigError, DataError
from vaezoo.evaluation.batches import context_of
from vaezoo.evaluation.report import test_set
from vaezoo.samplers import Sampler
from vaezoo.workflows.fit_sampler import fit_sampler, load_sampler, saved_samplers
from vaezoo.workflows.load import load, locate
from vaezoo.workflows.measure import data_of

__all__ = ["comparison", "interpolation", "reconstructions", "sample_grids", "samples", "some_images", "traversal"]

IMAGES = 16  # of each model in a picture of several


def some_images(model: VAE, data: str | None, n: int) -> tuple[Tensor, Tensor | None]:
    """Returns the first `n` test images as the model was meant to see them, and their contexts.

    The first 64 of MNIST come with the package: pictures of them need no download.

    Raises:
        DataError: fewer images than asked for.
    """
    name = data_of(model, data)
    if n < 1:
        raise DataError(f"Got {n} images to draw; expected at least 1.")
    chosen: Dataset
    if name == "mnist" and n <= 64:
        table = (model.config or {}).get("data")
        known = table if isinstance(table, dict) else {}
        chosen = binarize(pad(bundled_images(), int(known.get("pad", 0))), str(known.get("binarize", "none")))
    else:
        chosen = test_set(model, name)
    if n > len(chosen):
        raise DataError(f"Got {n} images to draw; {name!r} has {len(chosen)} test images.")
    context = context_of(model, chosen)
    return chosen.batch(torch.arange(n)), None if context is None else context[:n]


def target(out: Path, name: str, what: str) -> Path:
    """Returns where a picture of a model goes: `out` where that ends in .png, a file of its own in that folder else."""
    if out.suffix.lower() == ".png" and not out.is_dir():
        return out
    return out / f"{Path(name.removeprefix('hf:').replace('@', '-')).name}-{what}.png"


def samples(name: str, n: int, c: int | None, seed: int, out: Path, sampler: str | None = None) -> Path:
    """Draws `n` samples; a conditional model's go through the classes in turn unless `c` is given.

    With a `sampler`, the one that is saved beside the model; where there is none, it is fitted on the training data.
    """
    if sampler is not None:
        if c is not None:
            raise ConfigError("Got a class and a sampler; expected one: samplers are of models without classes.")
        fitted = sampler_for(name, sampler, seed)
        return pictures.grid(fitted.sample(n, seed=seed), target(out, name, f"{sampler}-samples"))
    model = load(name)
    context = torch.arange(n) % model.context if model.context and c is None else c
    return pictures.samples(model, n, target(out, name, "samples"), context, seed)


def sampler_for(name: str, sampler: str, seed: int) -> Sampler:
    """Returns the sampler that is saved beside a model; where there is none, one fitted on its training data."""
    if sampler in saved_samplers(locate(name)):
        return load_sampler(name, sampler)
    model = load(name)
    return fit_sampler(model, data_of(model, None), sampler, seed=seed)


def reconstructions(name: str, n: int, data: str | None, out: Path) -> Path:
    """Draws `n` test images above their reconstructions."""
    model = load(name)
    x, c = some_images(model, data, n)
    return pictures.reconstructions(model, x, target(out, name, "reconstructions"), c)


def traversal(name: str, index: int, dims: list[int] | None, data: str | None, out: Path) -> Path:
    """Draws what each latent changes in test image number `index`."""
    if index < 0:
        raise DataError(f"Got image number {index}; expected 0 or more.")
    model = load(name)
    x, c = some_images(model, data, index + 1)
    path = target(out, name, "traversal")
    return pictures.traversal(model, x[-1:], path, dims, c=None if c is None else c[-1:])


def interpolation(name: str, pairs: int, steps: int, data: str | None, out: Path) -> Path:
    """Draws the way between pairs of test images; a conditional model stays with the first one's context."""
    model = load(name)
    x, c = some_images(model, data, 2 * pairs)
    both = x.reshape(pairs, 2, *x.shape[1:])
    return pictures.interpolation(model, both, target(out, name, "interpolation"), steps, None if c is None else c[::2])


def comparison(models: Mapping[str, VAE], data: str, out: Path) -> Path:
    """Draws the same test images and what each model makes of them."""
    columns: dict[str, Tensor] = {}
    for name, model in models.items():
        x, c = some_images(model, data, IMAGES)
        columns.setdefault("original", x)
        columns[name] = model.reconstruct(x.to(next(model.parameters()).device), c).cpu()
    return pictures.comparison(columns, out / "comparison.png")


def sample_grids(models: Mapping[str, VAE], out: Path) -> Path:
    """Draws samples of each model side by side; those of conditional ones go through the classes in turn."""
    columns: dict[str, Tensor] = {}
    for name, model in models.items():
        context = torch.arange(IMAGES) % model.context if model.context else None
        columns[name] = model.sample(IMAGES, context, seed=0).cpu()
    return pictures.comparison(columns, out / "samples.png")
