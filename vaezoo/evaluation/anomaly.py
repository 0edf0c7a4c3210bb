r"""Scores of how unusual examples are under a model, and how well they separate two sets.

The likelihood alone is no good score for other data sets: models of Fashion-MNIST give MNIST a higher one than their
own test images (Nalisnick et al., 2019, https://arxiv.org/abs/1810.09136). Compare several scores.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import VAE, check_model, evaluating, seeded, whole_number, whole_seed
from vaezoo.data import Dataset
from vaezoo.distributions import DiagonalNormal
from vaezoo.errors import ConfigError, DataError, ShapeError
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.estimates import evidence
from vaezoo.evaluation.test_sets import test_set
from vaezoo.hierarchy import BottomDecoder, HierarchicalPosterior, PathDecoder

Score = Literal["bound", "evidence", "distortion", "rate", "typicality", "likelihood-ratio"]
SCORES = ("bound", "evidence", "distortion", "rate", "typicality", "likelihood-ratio")


def anomaly_scores(
    model: VAE,
    data: object,
    score: Score = "bound",
    *,
    samples: int = 50,
    reference: object = None,
    levels: int = 1,
    seed: int = 0,
) -> Tensor:
    r"""Returns a score of each example, (N,), float64, nats; the higher, the more unusual.

    - "bound": minus the ELBO; "distortion" and "rate": its terms. Means over `samples` draws of z.
    - "evidence": minus the importance-weighted log p(x) with K = `samples`.
    - "typicality": distance of minus the bound from its mean over `reference`, the test of Nalisnick et al. (2019,
      https://arxiv.org/abs/1906.02994) for single examples.
    - "likelihood-ratio": $L - L^{>k}$ for a hierarchy, where the second bound draws the lowest k levels from the prior
      given the levels above (Havtorn et al., 2021, https://arxiv.org/abs/2102.08248): what only details explain.

    Args:
        model: measured in eval mode.
        data: the examples, anything that `vaezoo.data.as_dataset` takes; binarized as in training.
        score: the kind of score.
        samples: draws of z for each example.
        reference: training or validation data, for "typicality" alone.
        levels: k, for "likelihood-ratio" alone; at least one level is left.
        seed: seed of the draws.

    Raises:
        ConfigError: an unknown score, no reference for "typicality", or no hierarchy with so many levels for
            "likelihood-ratio".
        SupportError, NoDensityError: the model has no bound for these data.
    """
    check_model(model)
    samples, seed = whole_number(samples, "samples", 1), whole_seed(seed)
    if score not in SCORES:
        raise ConfigError(f"Got score = {score!r}; expected one of {', '.join(SCORES)}.")
    if (reference is None) == (score == "typicality"):
        raise ConfigError(
            f"Got score = {score!r} {'without' if reference is None else 'with'} a reference; expected one for "
            "'typicality' and for no other score. Pass reference=, such as the training data."
        )
    if score == "evidence":
        return -evidence(model, data, samples, seed=seed).double()
    if score == "likelihood-ratio":
        return likelihood_ratios(model, test_set(model, data), levels, samples, seed)
    minus_bound, distortion, rate = mean_terms(model, test_set(model, data), samples, seed).unbind()
    if score == "typicality":
        usual = mean_terms(model, test_set(model, reference), samples, seed)[0].mean()
        return (minus_bound - usual).abs()
    return {"bound": minus_bound, "distortion": distortion, "rate": rate}[score]


@torch.no_grad()
def mean_terms(model: VAE, data: Dataset, samples: int, seed: int) -> Tensor:
    """Returns minus the bound, the distortion and the rate of each example, (3, N), means over draws."""
    rows = []
    with evaluating(model), seeded(seed):
        for x, c in batches(model, data):
            elbos = [model(x, c) for _ in range(samples)]
            parts = [(-each.bound, each.distortion, each.rate) for each in elbos]
            rows.append(torch.stack([torch.stack(terms) for terms in parts]).double().mean(0).cpu())
    found = torch.cat(rows, 1)
    if not bool(found.isfinite().all()):
        raise DataError(
            "Got bounds that are not finite; expected data to which the model gives a density. Binarize or scale them "
            "as in training."
        )
    return found


def likelihood_ratios(model: VAE, data: Dataset, levels: int, samples: int, seed: int) -> Tensor:
    """Returns L - L^{>k} of each example, (N,), for k = `levels`; raises ConfigError if the model has no hierarchy."""
    levels = whole_number(levels, "levels", 1)
    found = []
    with torch.no_grad(), evaluating(model), seeded(seed):
        for x, c in batches(model, data):
            full, upper = (hierarchical_bounds(model, x, c, each, samples) for each in (0, levels))
            found.append((full - upper).cpu())
    return torch.cat(found)


def hierarchical_bounds(model: VAE, x: Tensor, c: Tensor | None, left_out: int, samples: int) -> Tensor:
    """Returns the bound (B,), float64, whose lowest `left_out` levels are drawn from the prior given those above.

    Raises:
        ConfigError: the posterior is not that of a hierarchy with more levels.
    """
    posterior, decoder = model.encoder(x, c), model.decoder
    count = len(posterior.path.sizes) if isinstance(posterior, HierarchicalPosterior) else 0
    if not isinstance(posterior, HierarchicalPosterior) or count <= left_out or not is_path_decoder(decoder):
        raise ConfigError(
            f"Got a model with {count or 'no'} levels and levels = {left_out}; expected a hierarchy, such as "
            "ladder-vae or top-down-vae, with at least one level more. Use another score or fewer levels."
        )
    own = posterior.propose

    def propose(level: int, state: Tensor, prior: DiagonalNormal) -> DiagonalNormal:
        return prior if level >= count - left_out else own(level, state, prior)

    changed = HierarchicalPosterior(posterior.path, propose, len(x), c)
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for _ in range(samples):
        drawn = changed.sample_levels((1,))
        likelihood: Distribution = decoder.decode_state(drawn.state, c)  # type: ignore[operator]  # a path decoder
        total += (likelihood.log_prob(x) - drawn.rates.sum(-1)).squeeze(0).double()
    return total / samples


def is_path_decoder(decoder: object) -> bool:
    """Returns whether a decoder takes the last state of a path."""
    return isinstance(decoder, PathDecoder | BottomDecoder)


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How well scores separate unusual examples from usual ones, each between 0 and 1, higher is better but `fpr95`.

    `auroc`: probability that an unusual example has the higher score, ½ for guessing. `aupr`: average precision, the
    share of unusual examples for guessing. `fpr95`: share of usual examples with a score at least as high as that
    which 95 % of the unusual ones reach.
    """

    auroc: float
    aupr: float
    fpr95: float


def detection(usual: Tensor, unusual: Tensor) -> Detection:
    """Returns how well scores (N,) of usual examples and (M,) of unusual ones, which should be higher, are separated.

    Raises:
        ShapeError: an argument is not a vector with at least one score.
        DataError: a score is NaN.
    """
    if usual.dim() != 1 or unusual.dim() != 1 or not len(usual) or not len(unusual):
        raise ShapeError(
            f"Got scores of shapes {tuple(usual.shape)} and {tuple(unusual.shape)}; expected two vectors, (N,) and "
            "(M,), of at least one score."
        )
    if bool(usual.isnan().any() | unusual.isnan().any()):
        raise DataError("Got scores that are NaN; expected numbers. Inspect the model and the data.")
    usual, unusual = usual.double().cpu().sort().values, unusual.double().cpu().sort().values
    below, up_to = (torch.searchsorted(usual, unusual, right=each).double() for each in (False, True))
    auroc = (0.5 * (below + up_to)).mean() / len(usual)
    threshold = unusual[int(0.05 * len(unusual))]
    return Detection(
        auroc=float(auroc),
        aupr=average_precision(usual, unusual),
        fpr95=float((usual >= threshold).double().mean()),
    )


def average_precision(usual: Tensor, unusual: Tensor) -> float:
    """Returns the sum over thresholds of precision times the gain of recall; equal scores are one threshold."""
    scores = torch.cat([usual, unusual]).unique().flip(0)
    hits = len(unusual) - torch.searchsorted(unusual, scores)
    alarms = hits + len(usual) - torch.searchsorted(usual, scores)
    recall = hits.double() / len(unusual)
    gains = torch.diff(recall, prepend=recall.new_zeros(1))
    return float((gains * hits / alarms).sum())


def threshold_of(scores: Tensor, false_alarms: float = 0.05) -> float:
    """Returns the score above which a share `false_alarms` of usual examples, held out from training, lies.

    Raises:
        ConfigError: the share is not between 0 and 1.
        ShapeError: `scores` is not a vector with at least one score.
    """
    if not 0.0 < false_alarms < 1.0:
        raise ConfigError(f"Got false_alarms = {false_alarms}; expected a share between 0 and 1, such as 0.05.")
    if scores.dim() != 1 or not len(scores):
        raise ShapeError(f"Got scores of shape {tuple(scores.shape)}; expected a vector (N,) of usual examples.")
    return float(torch.quantile(scores.double(), 1.0 - false_alarms, interpolation="higher"))
