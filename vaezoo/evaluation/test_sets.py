"""Data as a model expects it: any form of data as a `Dataset`, resized, padded and binarized, and parts of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, cast

import torch
from torch import Tensor

from vaezoo.core import VAE, check_model, public_name, whole_number
from vaezoo.data import (
    Dataset,
    ImageOptions,
    as_dataset,
    binarize,
    fit_images,
    in_layout,
    layout_of,
    pad,
)
from vaezoo.data.dataset import stable_permutation
from vaezoo.errors import DataError, warn
from vaezoo.evaluation.batches import context_of
from vaezoo.evaluation.seeds import SUBSET_SEED

DRAWN: Final = 16
"""Examples of a data set in a picture."""


def test_set(model: VAE, data: object, *, split: str = "test", binarize: str | None = None) -> Dataset:
    """Returns a data set resized, padded and binarized as the model expects.

    Args:
        model: its config states how its training data were resized, padded and binarized.
        data: anything that `vaezoo.data.as_dataset` takes; those that have the model's shape already are neither
            resized nor padded.
        split: split of a named data set, and the one that other data are.
        binarize: "none", "dynamic" or "static"; None for that of the training data. Each image is sampled once, those
            of test sets with one fixed seed, training images with another.

    Raises:
        ConfigError: the model is a name.
    """
    check_model(model)
    table = (model.config or {}).get("data")
    known = cast(dict[str, object], table) if isinstance(table, dict) else {}
    name, columns = cast("str | None", known.get("name")), cast("list[str] | None", known.get("columns"))
    data = in_layout(data, split, name, layout_of(model), columns)
    options, padding = options_of(model, known, data), int(cast(int, known.get("pad", 0)))
    # Own data of the model's shape, padded already, are not resized to the size before padding.
    options_now = None if padding and not isinstance(data, str) else options
    loaded = as_dataset(data, split, options=options_now, name=name)
    if loaded.shape != model.shape:
        loaded = pad(fit_images(loaded, options), padding)
    same = isinstance(data, str) and known.get("name") == public_name(data)
    if same and known.get("split") == "all" and split not in ("train", "all"):
        warn(f"The model was trained on all images of {data}, these included; its figures are too good.")
    return binarized(loaded, str(known.get("binarize", "none")) if binarize is None else binarize)


def options_of(model: VAE, known: Mapping[str, object], data: object) -> ImageOptions:
    """Returns size, crop, channels and background of a model's training images; `known` is the table of its config."""
    options = ImageOptions.among(known)
    if options.channels is None and str(data).startswith("folder:") and (model.shape or (0,))[0] == 3:
        return replace(options, channels="color")  # a folder of gray images fits a model of color images
    return options


def examples_of(model: VAE, x: object, c: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Returns x (N, *shape) and its context for a picture.

    A tensor is unchanged. Other data is that of `test_set`, of which at most `DRAWN` examples are chosen with
    `SUBSET_SEED`, with their own contexts unless `c` is given.
    """
    if isinstance(x, Tensor):
        return x, c
    chosen = limited(test_set(model, x), DRAWN)[0]
    return chosen.batch(slice(None)), context_of(model, chosen) if c is None else c


def binarized(data: Dataset, how: str) -> Dataset:
    """Returns a set whose images are sampled once: in evaluation also training images that training samples anew."""
    return binarize(data, "static" if how == "dynamic" else how)


def limited(data: Dataset, limit: int | None, seed: int = SUBSET_SEED) -> tuple[Dataset, int | None]:
    """Returns at most `limit` examples, and the seed that chose them; all in their own order and None if that is all.

    Data sets are often sorted by class, so that the first examples differ from the others. The chosen ones are the
    beginning of one permutation of the set, which depends on its size and the seed alone.

    Raises:
        DataError: the limit is no whole number of at least 1, or the seed none of at least 0.
    """
    limit = None if limit is None else whole_number(limit, "limit", 1, error=DataError)
    seed = whole_number(seed, "seed", 0, 2**64 - 1, error=DataError)
    if limit is None or limit >= len(data):
        return data, None
    return data.subset(torch.from_numpy(stable_permutation(len(data), seed)[:limit])), seed
