r"""Fréchet distance between two sets of images, in a feature space.

$$d^2 = \|\mu_1 - \mu_2\|^2 + \mathrm{tr}\,\big(\Sigma_1 + \Sigma_2 - 2\,(\Sigma_1 \Sigma_2)^{1/2}\big)$$

between Gaussians with the means and covariances of the features (Fréchet, 1957; Heusel et al., 2017,
https://arxiv.org/abs/1706.08500). Distances compare only for the same features, number of images and binarization.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from vaezoo.core import VAE, check_tensor, evaluating, rows_at_once, seeded, whole_number
from vaezoo.data import Dataset, as_dataset
from vaezoo.data.dataset import stable_permutation
from vaezoo.errors import ConfigError, ShapeError, SupportError, UnknownNameError
from vaezoo.evaluation.batches import batches, context_of
from vaezoo.evaluation.seeds import SUBSET_SEED
from vaezoo.evaluation.test_sets import binarized, limited, test_set
from vaezoo.networks.features import TrainedFeatures as TrainedFeatures  # also a public name of `evaluation`

Features = Callable[[Tensor], Tensor]


def frechet_distance(
    source: object,
    data: object,
    *,
    features: Features | None = None,
    of: Literal["samples", "reconstructions"] = "samples",
    n: int = 10_000,
    split: str = "test",
    binarize: str = "none",
    seed: int = 0,
) -> float:
    """Returns the squared Fréchet distance between a model's images, or given ones, and those of a data set.

    Args:
        source: a model, whose means of p(x|z) are measured in eval mode; or images, in any form that
            `vaezoo.data.as_dataset` takes.
        data: held-out images in such a form, such as "mnist". Of both sets at most `n` images are used, chosen with a
            fixed seed.
        features: function from examples (B, *shape) to (B, F), such as a classifier's last hidden layer; a module is
            used in eval mode. None for `TrainedFeatures`, those of a small classifier in the package; distances do not
            compare with those of papers, which use another network.
        of: "samples" of the model, with the contexts of the data if it is conditional, or "reconstructions" of the
            data.
        n: largest number of images of each set; the estimate is biased upwards, less so for larger n.
        split: split of a named data set.
        binarize: binarization of a named data set: "none", "dynamic" or "static". Means of p(x|z) are gray.
        seed: seed of the samples.

    Raises:
        ShapeError, DataError, ConfigError, ContextError, UnknownNameError: an argument is invalid.
    """
    ours, theirs = features_of_both(
        source, data, features=features, of=of, n=n, split=split, binarize=binarize, seed=seed
    )
    return gaussian_frechet_distance(*moments(ours), *moments(theirs))


def features_of_both(
    source: object,
    data: object,
    *,
    features: Features | None,
    of: str,
    n: int,
    split: str,
    binarize: str,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Returns the features (N, F) of a model's or given images, and those of a data set; see `frechet_distance`."""
    n = whole_number(n, "n", 2)
    if of not in ("samples", "reconstructions"):
        raise ConfigError(f"Got of = {of!r}; expected 'samples' or 'reconstructions'.")
    if isinstance(source, VAE):
        chosen, _ = limited(test_set(source, data, split=split, binarize=binarize), n)
    else:
        chosen, _ = limited(binarized(as_dataset(data, split), binarize), n)
    device = next(source.parameters()).device if isinstance(source, VAE) else chosen.images.device
    own = TrainedFeatures().to(device) if features is None else features
    with torch.no_grad(), evaluating(*(each for each in (source, own) if isinstance(each, nn.Module))):
        rows = rows_at_once(chosen.shape)
        parts = torch.arange(len(chosen)).split(rows)
        theirs = feature_rows(own, (x.to(device) for x in chosen.batches(parts)))
        if not isinstance(source, VAE):
            given = given_images(source, split)
            images = given if isinstance(given, Tensor) else limited(given, n)[0].batch(slice(None))
            order = torch.from_numpy(stable_permutation(len(images), SUBSET_SEED)[:n]).to(images.device)
            images = check_tensor(images, chosen.shape, images.device)
            return feature_rows(own, (images[each].to(device) for each in order.split(rows))), theirs
        remade = (source.reconstruct(x, c) for x, c in batches(source, chosen))
        made = remade if of == "reconstructions" else samples(source, chosen)
        with seeded(seed):
            return feature_rows(own, made), theirs


def given_images(source: object, split: str) -> Tensor | Dataset:
    """Returns images of floating type as they are, others as a data set; raises UnknownNameError for another name."""
    if isinstance(source, Tensor) and source.is_floating_point():
        return source
    try:
        return as_dataset(source, split)
    except UnknownNameError as error:
        hint = "A model is not given by its name: vaezoo.load(NAME)."
        raise UnknownNameError("data set", source, error.known, hint) from None


def samples(model: VAE, data: Dataset) -> Iterator[Tensor]:
    """Yields a sample for each example of a set, with its context if the model is conditional, (B, *shape)."""
    context, device = context_of(model, data), next(model.parameters()).device
    for indices in torch.arange(len(data)).split(rows_at_once(data.shape)):
        yield model.sample(len(indices), None if context is None else context[indices].to(device))


def feature_rows(features: Features, images: Iterable[Tensor]) -> Tensor:
    """Returns the features (N, F) of batches of images, in float64 on the CPU."""
    rows = []
    for batch in images:
        found = features(batch)
        if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(batch):
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ShapeError(f"Got features {got} of {len(batch)} images; expected ({len(batch)}, F). Flatten them.")
        rows.append(found.double().cpu())
    every = torch.cat(rows)
    if not bool(torch.isfinite(every).all()):
        raise SupportError("Got features that are NaN or infinite; expected finite ones. Inspect images and features.")
    if len(every) < 2:
        raise ShapeError("Got a single image; expected at least 2.")
    return every


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean (F,) and covariance (F, F) of features (N, F)."""
    return rows.mean(0), torch.atleast_2d(rows.T.cov())


def gaussian_frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    r"""Returns the squared Fréchet (Wasserstein-2) distance of two Gaussians, in float64.

    $\mathrm{tr}\,(\Sigma_1 \Sigma_2)^{1/2}$ is computed as the sum of the singular values of
    $\Sigma_1^{1/2} \Sigma_2^{1/2}$, which is stable for covariances of any rank.

    Raises:
        ShapeError: the means are not (F,), or the covariances not (F, F).
    """
    size = len(mean)
    shapes = [tuple(each.shape) for each in (mean, covariance, other_mean, other_covariance)]
    if shapes != [(size,), (size, size)] * 2:
        raise ShapeError(f"Got shapes {shapes}; expected two means (F,), each with a covariance (F, F).")
    one, other = covariance.double(), other_covariance.double()
    # Symmetric square roots.
    roots = [(v * w.clamp(min=0.0).sqrt()) @ v.mT for w, v in map(torch.linalg.eigh, (one, other))]
    apart = (mean.double() - other_mean.double()).square().sum()
    overlap = torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    return max(0.0, float(apart + one.trace() + other.trace() - 2.0 * overlap))
