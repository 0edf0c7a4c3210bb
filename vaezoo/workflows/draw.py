"""Pictures of models, which are given by name."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack, cast

import torch
from torch import Tensor

from vaezoo import pictures
from vaezoo.core import VAE, SampleOptions, class_names
from vaezoo.data import SeriesLayout, bundled_images, layout_of
from vaezoo.data.bundled import BUNDLED
from vaezoo.errors import ConfigError, DataError, shorten
from vaezoo.evaluation.batches import context_of
from vaezoo.evaluation.seeds import SUBSET_SEED
from vaezoo.evaluation.test_sets import limited, test_set
from vaezoo.workflows.fit_sampler import fit_sampler, load_sampler, saved_samplers
from vaezoo.workflows.load import load, locate
from vaezoo.workflows.measure import data_of
from vaezoo.workflows.run_folder import own_data

IMAGES = 16  # of each model in a picture of several


def some_images(
    model: VAE, data: str | None, n: int, *, indices: Sequence[int] | None = None, seed: int = SUBSET_SEED
) -> tuple[Tensor, Tensor | None]:
    """Returns test images, padded and binarized for the model, and their contexts.

    A few images are chosen from those of the set that are in the package (`bundled_images`), without a download.

    Args:
        model: the model.
        data: name of a data set; None for that of the training data.
        n: number of images, chosen with `seed` as in `evaluate`.
        indices: numbers of the images in the test set instead; None for chosen ones.
        seed: seed of the choice.

    Raises:
        DataError: the test set has fewer images, or the seed is negative.
    """
    name = data_of(model, data)
    if indices is None and n < 1:
        raise DataError(f"Got {n} images to draw; expected at least 1.")
    if indices is not None and (not indices or min(indices) < 0):
        raise DataError(f"Got the image numbers {shorten(list(indices))}; expected at least one, from 0.")
    needed = n if indices is None else max(indices) + 1
    bundled = BUNDLED.get(name)
    suffices = bundled is not None and needed <= bundled.images and (indices is None or bundled.first)
    whole = test_set(model, bundled_images(name) if suffices else name)
    if needed > len(whole):
        got = f"{n} images to draw" if indices is None else f"image number {needed - 1}, counted from 0"
        raise DataError(f"Got {got}; {name!r} has {len(whole)} test images.")
    chosen = limited(whole, n, seed)[0] if indices is None else whole.subset(list(indices))
    return chosen.batch(torch.arange(len(chosen))), context_of(model, chosen)


def target(out: Path, name: str, what: str) -> Path:
    """Returns the path of a picture of a model: `out` if it ends in .png, else a file in this folder."""
    if out.suffix.lower() == ".png" and not out.is_dir():
        return out
    return out / f"{Path(name.removeprefix('hf:').replace('@', '-')).name}-{what}.png"


def samples(
    name: str,
    n: int,
    c: int | str | None,
    seed: int,
    out: Path,
    sampler: str | None = None,
    data: str | None = None,
    **options: Unpack[SampleOptions],
) -> Path:
    """Draws `n` samples; those of a conditional model use the classes in turn unless `c` is given.

    A `sampler` is the one that is saved with the model, or else is fitted to `data`, by default the training data.
    `options` (temperature, top_k, top_p) are those of `VAE.sample`.
    """
    if sampler is not None:
        if {key: value for key, value in options.items() if value is not None} not in ({}, {"temperature": 1.0}):
            raise ConfigError("Got a sampler and options of the prior; expected one. Leave temperature and top-… out.")
        if c is not None:
            raise ConfigError("Got a class and a sampler; expected one: samplers are for models without classes.")
        if sampler in saved_samplers(locate(name)):
            fitted = load_sampler(name, sampler)
        else:
            model = load(name)
            fitted = fit_sampler(model, data_of(model, own_data(name, data)), sampler, seed=seed)
        drawn, path, layout = (
            fitted.sample(n, seed=seed),
            target(out, name, f"{sampler}-samples"),
            layout_of(fitted.model),
        )
        if isinstance(layout, SeriesLayout):
            return pictures.lines({"sample": layout.series(drawn)}, path)
        return pictures.grid(drawn, path)
    model = load(name)
    context = torch.arange(n) % model.context if model.context and c is None else class_of(model, c)
    return pictures.samples(model, n, target(out, name, "samples"), context, seed, **options)


def class_of(model: VAE, c: int | str | None) -> int | str | None:
    """Returns a class as `VAE.sample` takes it: the text of a number that is no name of a class is an index."""
    number = isinstance(c, str) and c not in class_names(model.config) and re.fullmatch(r"-?\d{1,18}", c)
    return int(cast(str, c)) if number else c


def reconstructions(
    name: str, n: int, data: str | None, out: Path, *, indices: Sequence[int] | None = None, seed: int = SUBSET_SEED
) -> Path:
    """Draws test images above their reconstructions; `n`, `indices` and `seed` as in `some_images`."""
    model = load(name)
    x, c = some_images(model, own_data(name, data), n, indices=indices, seed=seed)
    return pictures.reconstructions(model, x, target(out, name, "reconstructions"), c)


def traversal(
    name: str, index: int | None, dims: list[int] | None, data: str | None, out: Path, *, seed: int = SUBSET_SEED
) -> Path:
    """Draws the effect of each latent on test image number `index`, or on one that `seed` chooses."""
    model = load(name)
    x, c = some_images(model, own_data(name, data), 1, indices=None if index is None else [index], seed=seed)
    return pictures.traversal(model, x, target(out, name, "traversal"), dims, c=c)


def interpolation(name: str, pairs: int, steps: int, data: str | None, out: Path, *, seed: int = SUBSET_SEED) -> Path:
    """Draws interpolations between pairs of test images, in the context of the first image of each pair."""
    model = load(name)
    x, c = some_images(model, own_data(name, data), 2 * pairs, seed=seed)
    own = None if c is None else c[::2]
    return pictures.interpolation(model, x.unflatten(0, (pairs, 2)), target(out, name, "interpolation"), steps, own)


def code_use(name: str, data: str | None, out: Path, *, limit: int | None = None) -> Path:
    """Draws how often each code is chosen over a test set, of at most `limit` examples."""
    model = load(name)
    return pictures.code_use(model, data_of(model, own_data(name, data)), target(out, name, "codes"), limit=limit)


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
