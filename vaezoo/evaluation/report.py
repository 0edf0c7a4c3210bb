"""`evaluate`: every figure of a model on a test set, with what it was measured on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import cast

import torch
from torch import Tensor

from vaezoo.core import ELBO, VAE, seeded
from vaezoo.data import TEST_SEED, Dataset, binarize, from_tensors, load_dataset, pad
from vaezoo.errors import ConfigError, DataError
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.clustering import accuracy_of_clusters
from vaezoo.evaluation.evidence import Estimate, estimate, evidence
from vaezoo.evaluation.labels import label_error
from vaezoo.evaluation.latents import active_units, codes, mean_perplexity

__all__ = ["Report", "evaluate", "measured", "test_set"]

CLASSES = frozenset({"label_error", "clustering_accuracy"})  # figures of those models alone that tell classes


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of a model on a data set: means over examples in nats, each with its standard error.

    `bound` and `log_evidence` are None where x has no density under the likelihood; the distortion is then a loss.
    `psnr` is in dB, of the mean squared error over the whole set, peak 1. `active_units` counts latents, `perplexity`
    codes, the mean over levels where a model has several. `label_error` is the share of examples of which a model that
    tells classes tells the wrong one, `clustering_accuracy` the share that a model with clusters puts where their class
    is.
    """

    data: str
    split: str
    binarization: str
    binarization_seed: int | None
    examples: int
    samples: int
    seed: int
    bound: Estimate
    distortion: Estimate
    rate: Estimate
    log_evidence: Estimate
    psnr: float
    latents: int
    active_units: int | None
    perplexity: float | None
    parameters: int
    label_error: float | None = None
    clustering_accuracy: float | None = None

    def as_dict(self) -> dict[str, object]:
        """Returns plain values, as `metrics.json` holds them; `CLASSES` only of models that tell some."""
        return {key: value for key, value in asdict(self).items() if key not in CLASSES or value is not None}


def test_set(model: VAE, data: object, *, split: str = "test", binarize: str | None = None) -> Dataset:
    """Returns a data set as this model was meant to see it.

    Args:
        model: its config says how its training data were padded and binarized.
        data: a name, a tensor, (x, c), or a `Dataset`; what has the model's shape already is not padded.
        split: of a named data set.
        binarize: "none", "dynamic" or "static"; None for what the model was trained on. Test sets are always binarized
            with the one documented seed.
    """
    table = (model.config or {}).get("data")
    known = cast(dict[str, object], table) if isinstance(table, dict) else {}
    loaded = set_of(data, split)
    if loaded.shape != model.shape:
        loaded = pad(loaded, int(cast(int, known.get("pad", 0))))
    return binarized(loaded, binarize or str(known.get("binarize", "none")))


def set_of(data: object, split: str) -> Dataset:
    """Returns the data set of a name, a tensor, (x, c), or a `Dataset`."""
    return load_dataset(data, split) if isinstance(data, str) else from_tensors(data, split=split)


def binarized(data: Dataset, how: str) -> Dataset:
    """Returns a set whose images, if they are of 8 bits, are binarized as `how` says."""
    return binarize(data, how) if data.images.dtype == torch.uint8 else data


def first(data: Dataset, limit: int | None) -> Dataset:
    """Returns the first `limit` examples of a set, all where None; raises DataError for a limit below 1."""
    if limit is not None and limit < 1:
        raise DataError(f"Got limit = {limit}; expected at least 1 example.")
    return data if limit is None or limit >= len(data) else data.subset(torch.arange(limit))


@torch.no_grad()
def evaluate(
    model: VAE,
    data: object,
    samples: int = 5000,
    *,
    split: str = "test",
    binarize: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> Report:
    """Measures a model on a test set: bound, distortion, rate, log-evidence, PSNR, active units, perplexity.

    Args:
        model: in eval mode from `load`; put into eval mode here.
        data: a name such as "mnist", a tensor, (x, c), or a `Dataset`.
        samples: K of the importance-weighted evidence; 0 leaves it out.
        split: of a named data set.
        binarize: see `test_set`.
        limit: only the first so many examples; the report says so.
        seed: of all noise.
        report: hears (examples done, examples in all).

    Raises:
        DataError, ShapeError, SupportError, ContextError: what was got, what was expected and what to do.
    """
    if samples < 0:
        raise ConfigError(f"Got samples = {samples}; expected 0 (no evidence) or more.")
    chosen = first(test_set(model, data, split=split, binarize=binarize), limit)
    return measured(model, chosen, samples, seed=seed, report=report)[0]


@torch.no_grad()
def measured(
    model: VAE, chosen: Dataset, samples: int, *, seed: int = 0, report: Callable[[int, int], None] | None = None
) -> tuple[Report, Tensor | None]:
    """Returns the report of a set that `test_set` gave, and the log-evidence of each example, (N,), nats, or None."""
    model.eval()
    bound, distortion, rate, errors = pass_over(model, chosen, seed)
    measurable = samples > 0 and bool(torch.isfinite(bound).all())
    each = evidence(model, chosen, samples, seed=seed, report=report) if measurable else None
    indices = codes(model, chosen)
    found = Report(
        data=chosen.name,
        split=chosen.split,
        binarization=chosen.binarization,
        binarization_seed=TEST_SEED if chosen.binarization == "static" and chosen.split != "train" else None,
        examples=len(chosen),
        samples=samples if each is not None else 0,
        seed=seed,
        bound=estimate(bound),
        distortion=estimate(distortion),
        rate=estimate(rate),
        log_evidence=Estimate(mean=None) if each is None else estimate(each),
        psnr=-10.0 * math.log10(max(errors.double().mean().item(), 1e-20)),
        latents=math.prod(model.latent or (0,)),
        active_units=active_units(model, chosen) if indices is None else None,
        perplexity=mean_perplexity(model, indices) if indices is not None else None,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        label_error=label_error(model, chosen),
        clustering_accuracy=accuracy_of_clusters(model, chosen),
    )
    return found, each


def pass_over(model: VAE, data: Dataset, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns bound, distortion, rate (nats) and mean squared error of every example, (N,) each."""
    rows: list[Tensor] = []
    with seeded(seed, next(model.parameters()).device):
        for x, c in batches(model, data):
            elbo = cast(ELBO, model(x, c))
            error = (model.reconstruct(x, c) - x).square().flatten(1).mean(1)
            rows.append(torch.stack([elbo.bound, elbo.distortion, elbo.rate, error]).cpu())
    bound, distortion, rate, errors = torch.cat(rows, 1)
    return bound, distortion, rate, errors
