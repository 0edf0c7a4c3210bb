r"""Precision, recall, density and coverage of samples, from neighborhoods in a feature space.

Each of N images has a ball around its features that reaches its k-th nearest other image; each of M samples likewise.
*Precision* is the share of samples in a ball of an image, *recall* the share of images in a ball of a sample
(Kynkäänniemi et al., 2019, https://arxiv.org/abs/1904.06991). *Density* is the number of pairs of a sample and a ball
of an image that contains it, divided by k M; *coverage* the share of images whose ball contains a sample (Naeem et al.,
2020, https://arxiv.org/abs/2002.09797).
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from vaezoo.core import VAE, evaluating, rows_at_once, seeded, whole_number
from vaezoo.data import Dataset
from vaezoo.errors import ConfigError, ShapeError, SupportError
from vaezoo.evaluation.batches import context_of
from vaezoo.evaluation.frechet import Features, feature_rows, features_of_both, samples
from vaezoo.evaluation.test_sets import limited
from vaezoo.networks.features import TrainedFeatures

NEIGHBORS: Final = 5  # as in Naeem et al.; Kynkäänniemi et al. use 3
IMAGES: Final = 2_000
AT_ONCE: Final = 2**24  # distances


@dataclass(frozen=True, kw_only=True)
class Neighborhoods:
    """Figures of samples, see `vaezoo.evaluation.manifolds`; from 0 to 1, but the density, which may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def sample_quality(
    source: object,
    data: object,
    *,
    k: int = NEIGHBORS,
    features: Features | None = None,
    n: int = IMAGES,
    split: str = "test",
    binarize: str = "none",
    seed: int = 0,
) -> Neighborhoods:
    """Returns precision, recall, density and coverage of a model's samples, or of given images, beside a data set.

    The features are those of `frechet_distance`, as are all arguments but `k`, the rank of the neighbor that a ball
    reaches. Figures compare only for the same features, numbers of images and k.

    Raises:
        ConfigError, ShapeError, DataError, ContextError, UnknownNameError: an argument is invalid.
    """
    k = whole_number(k, "k", 1)
    made, images = features_of_both(
        source, data, features=features, of="samples", n=n, split=split, binarize=binarize, seed=seed
    )
    return neighborhoods(images, made, k)


def neighborhoods(images: Tensor, made: Tensor, k: int = NEIGHBORS) -> Neighborhoods:
    """Returns the figures for features of images (N, F) and of samples (M, F), with N and M above k.

    Raises:
        ShapeError: the shapes do not fit, or there are too few rows.
        SupportError: NaN or infinite features.
    """
    k = whole_number(k, "k", 1)
    if images.dim() != 2 or made.dim() != 2 or images.shape[1:] != made.shape[1:]:
        raise ShapeError(
            f"Got features {tuple(images.shape)} and {tuple(made.shape)}; expected (N, F) of images and (M, F) of "
            "samples. Flatten them."
        )
    if min(len(images), len(made)) <= k:
        raise ConfigError(
            f"Got k = {k} with {len(images)} images and {len(made)} samples; expected more of both than k."
        )
    images, made = images.double(), made.double()
    if not bool(images.isfinite().all() and made.isfinite().all()):
        raise SupportError("Got features that are NaN or infinite; expected finite ones. Inspect images and features.")
    radii, own = reach(images, k), reach(made, k)
    inside = torch.zeros(len(made), dtype=torch.int64)  # balls of images that contain the sample
    covered, recalled = list[Tensor](), list[Tensor]()
    rows = max(1, AT_ONCE // len(made))
    for part, radius in zip(images.split(rows), radii.split(rows), strict=True):
        apart = distances(part, made)
        within = apart <= radius.unsqueeze(1)
        inside += within.sum(0)
        covered.append(within.any(1))
        recalled.append((apart <= own).any(1))
    return Neighborhoods(
        precision=float((inside > 0).double().mean()),
        recall=float(torch.cat(recalled).double().mean()),
        density=float(inside.double().mean()) / k,
        coverage=float(torch.cat(covered).double().mean()),
    )


def reach(rows: Tensor, k: int) -> Tensor:
    """Returns the distance of each of `rows` (N, F) from its k-th nearest other row, (N,)."""
    parts = rows.split(max(1, AT_ONCE // len(rows)))
    return torch.cat([distances(part, rows).kthvalue(k + 1, dim=1).values for part in parts])  # the first is itself


def distances(one: Tensor, other: Tensor) -> Tensor:
    """Returns Euclidean distances (N, M), without the rounding of a matrix product, which would move the limits."""
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")


def neighborhoods_of(model: VAE, data: Dataset, seed: int) -> Neighborhoods | None:
    """Returns the figures of samples beside a result of `test_set`; None for data that are no images, or too few.

    The samples are draws of p(x|z) if the data are binarized, else its means, as for the Fréchet distance.
    """
    chosen = limited(data, IMAGES)[0]
    if len(data.shape) != 3 or len(chosen) <= NEIGHBORS:
        return None
    device = next(model.parameters()).device
    features: nn.Module = TrainedFeatures().to(device)
    parts = torch.arange(len(chosen)).split(rows_at_once(chosen.shape))
    with torch.no_grad(), evaluating(model, features), seeded(seed):
        images = feature_rows(features, (x.to(device) for x in chosen.batches(parts)))
        drawn = samples(model, chosen) if chosen.binarization == "none" else pixels(model, chosen)
        return neighborhoods(images, feature_rows(features, drawn))


def pixels(model: VAE, data: Dataset) -> "list[Tensor]":
    """Returns a draw of p(x|z) for each example of a set, z from the prior, in batches (B, *shape)."""
    context, device, found = context_of(model, data), next(model.parameters()).device, list[Tensor]()
    for indices in torch.arange(len(data)).split(rows_at_once(data.shape)):
        c = model.check_context(None if context is None else context[indices].to(device), len(indices))
        prior = model.prior(c)
        found.append(model.decoder(prior.sample(() if prior.batch_shape else (len(indices),)), c).sample())
    return found
