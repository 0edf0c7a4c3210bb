"""Disentanglement scores: MIG, the FactorVAE score, total correlation.

All are functions of a representation, (N, D), and of the factors of its examples; `representation` computes one from a
model or any function. Estimators differ between code bases; each docstring states the one in use. The objective
explains 37 % of the variance of such scores, seed and hyperparameters the rest (Locatello et al., 2019,
https://arxiv.org/abs/1811.12359): report several seeds.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from vaezoo.core import (
    ACTIVE_VARIANCE,
    VAE,
    check_model,
    code_indices,
    evaluating,
    mean_or_center,
    rows_at_once,
    whole_number,
    whole_seed,
)
from vaezoo.data import Dataset, Factors, as_dataset
from vaezoo.errors import ConfigError, DataError, ShapeError, shorten
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.test_sets import test_set

Encode = Callable[[Tensor], "Tensor | Distribution"]

LEAST_VARIANCE = 0.05  # the FactorVAE score treats latents with a smaller variance of the mean as collapsed


@dataclass(frozen=True, kw_only=True)
class Disentanglement:
    """Scores of a representation on `examples` images of a set.

    `mig` and `factor_vae_score` lie between 0 and 1, higher is better; `chance` is the score of guessing. The total
    correlations of all latents and of the `active` ones (variance above 0.01) are in nats, lower is better, 0 for
    uncorrelated latents.
    """

    data: str
    split: str
    examples: int
    seed: int
    mig: float
    factor_vae_score: float
    chance: float
    total_correlation: float
    total_correlation_active: float
    active: int
    latents: int

    def as_dict(self) -> dict[str, object]:
        """Returns plain values."""
        return asdict(self)


def disentanglement(model: VAE | Encode, data: object, *, examples: int = 10_000, seed: int = 0) -> Disentanglement:
    """Computes disentanglement scores of the posterior's means with respect to the factors of a data set.

    Args:
        model: a model, or any function from x (B, *shape) to a representation, as in `representation`.
        data: a set with `factors`, such as "dsprites"; preferably held out.
        examples: number of examples, chosen by `seed`; all if the set has fewer.
        seed: seed of this choice and of the votes of the FactorVAE score.

    Raises:
        DataError: the set has no factors or too few examples.
        ShapeError: see `representation`.
    """
    whole = data_for(model, data)
    if whole.factors is None:
        raise DataError(
            f"{whole.name!r} has no ground-truth factors; expected a set with factors, such as 'dsprites'. For your "
            "own data, pass from_tensors(x, factors=Factors.of(values, names))."
        )
    examples, seed = whole_number(examples, "examples", 2, error=DataError), whole_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    chosen = whole.subset(torch.randperm(len(whole), generator=generator)[:examples])
    means = representation(model, chosen)
    active = means.var(0) > ACTIVE_VARIANCE
    factors = whole.factors if chosen.factors is None else chosen.factors
    return Disentanglement(
        data=whole.name,
        split=whole.split,
        examples=len(chosen),
        seed=seed,
        mig=mutual_information_gap(means, factors),
        factor_vae_score=factor_vae_score(means, factors, seed=seed),
        chance=1.0 / len(varying(factors)),
        total_correlation=gaussian_total_correlation(means),
        total_correlation_active=gaussian_total_correlation(means[:, active]),
        active=int(active.sum()),
        latents=means.shape[1],
    )


def representation(model: VAE | Encode, data: object, *, size: int | None = None) -> Tensor:
    """Returns the representation of every example of a set, (N, D), float64, on the CPU.

    Args:
        model: a model, represented by the means of its posteriors, or their centers
            where the mean has no closed form; or any function of x (B, *shape), `float32` in
            [0, 1], that returns a tensor (B, …) or a distribution, represented in the same way.
        data: the examples, anything that `vaezoo.data.as_dataset` takes; for a model binarized as in training.
        size: number of examples that are encoded at a time; None for 500, or fewer where examples are large.

    Raises:
        ShapeError: the function does not return a row for each example, or the latents are discrete codes.
        DataError: the representation is not finite.
    """
    chosen = data_for(model, data)
    with torch.no_grad(), evaluating(*([model] if isinstance(model, nn.Module) else [])):
        if isinstance(model, VAE):
            rows = [rows_of(model.encoder(x, c), len(x)) for x, c in batches(model, chosen, size)]
        else:
            parts = torch.arange(len(chosen)).split(size or rows_at_once(chosen.shape))
            rows = [rows_of(model(x), len(x)) for x in chosen.batches(parts)]
    means = torch.cat(rows)
    if not bool(torch.isfinite(means).all()):
        raise DataError("Got NaN or infinite values in the representation; expected finite ones. Inspect the model.")
    return means


class Embeddings(NamedTuple):
    """Representations of examples (N, D), float64, with the examples' names (N,) and labels (N,), or None."""

    values: Tensor
    names: tuple[str, ...] | None
    labels: Tensor | None


def embed(model: VAE | Encode, data: object, *, size: int | None = None) -> Embeddings:
    """Returns the representation of every example with its name, such as the file in a folder, and its label.

    Arguments and exceptions as in `representation`.
    """
    chosen = data_for(model, data)
    names = None if chosen.names is None else tuple(chosen.names)
    return Embeddings(representation(model, chosen, size=size), names, chosen.labels)


def data_for(model: VAE | Encode, data: object) -> Dataset:
    """Returns data as a model expects them, or as they are for a function; raises ConfigError for neither."""
    if not callable(model):
        check_model(model)
    return test_set(model, data) if isinstance(model, VAE) else as_dataset(data, "test")


def rows_of(given: object, count: int) -> Tensor:
    """Returns the output of an encoder for `count` examples as (B, D), float64."""
    if isinstance(given, Distribution) and code_indices(given) is not None:
        raise ShapeError("Got a model of discrete codes; expected continuous latents, whose values have an order.")
    found = mean_or_center(given) if isinstance(given, Distribution) else given
    if not isinstance(found, Tensor) or found.dim() < 2 or len(found) != count:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ShapeError(f"Got {shape} as representation of {count} examples; expected a row for each, ({count}, D).")
    return found.flatten(1).double().cpu()


def mutual_information_gap(latents: Tensor, factors: Factors, *, bins: int = 20) -> float:
    r"""Returns the mutual information gap between the two best latents of each factor, between 0 and 1.

    $$\frac1K \sum_k \frac{1}{H(v_k)} \Big(I(z_{j_k}; v_k) - \max_{j \ne j_k} I(z_j; v_k)\Big)$$

    Chen et al., 2018, https://arxiv.org/abs/1802.04942. The mutual information is that of the joint histogram of a
    factor and a latent in `bins` intervals of equal width, as in Locatello et al. (2019), not of posterior samples as
    in the paper. A factor with more than `bins` values reaches log(bins) / log(size) at most.

    Args:
        latents: a representation, (N, D).
        factors: factors of the same examples; those with a single value are left out.
        bins: number of intervals.

    Raises:
        ShapeError, DataError, ConfigError: an argument is invalid.
    """
    latents = checked(latents, factors)
    if bins < 2:
        raise ConfigError(f"Got bins = {bins}; expected at least 2.")
    low, high = latents.amin(0), latents.amax(0)
    share = (latents - low) / (high - low).clamp(min=torch.finfo(latents.dtype).tiny)
    binned, values, gaps = (share * bins).long().clamp(0, bins - 1), factors.values(), list[Tensor]()
    for k in varying(factors):
        size = factors.sizes[k]
        counts = torch.stack([
            torch.bincount(column * size + values[:, k], minlength=bins * size).view(bins, size) for column in binned.T
        ]).double() / len(latents)  # fmt: skip
        informations = entropy(counts.sum(2)) + entropy(counts.sum(1)) - entropy(counts.flatten(1))
        best = torch.cat([informations, informations.new_zeros(1)]).topk(2).values
        gaps.append((best[0] - best[1]) / entropy(counts[0].sum(0)))
    return float(torch.stack(gaps).mean())


def factor_vae_score(latents: Tensor, factors: Factors, *, votes: int = 800, group: int = 64, seed: int = 0) -> float:
    """Returns the FactorVAE score, between 0 and 1: the accuracy of a majority vote on which factor is fixed.

    Kim and Mnih, 2018, https://arxiv.org/abs/1802.05983, section 4: each vote fixes the value of a random factor in a
    group of examples; the vote is the latent with the smallest variance in the group relative to the whole set. Each
    latent predicts the factor of most of its votes. As in Locatello et al. (2019), the score is the accuracy on a
    second set of votes, and latents with a variance below 0.05 do not vote.

    Args:
        latents: a representation, (N, D).
        factors: factors of the same examples; those with a single value are left out.
        votes: number of votes for training, and again for the score.
        group: number of examples of a vote, drawn with replacement.
        seed: seed of the votes.

    Raises:
        ShapeError, DataError, ConfigError: an argument is invalid.
    """
    latents = checked(latents, factors)
    votes, group = whole_number(votes, "votes", 1), whole_number(group, "group", 2)
    which = varying(factors)
    variance = latents.var(0)
    voting = variance >= LEAST_VARIANCE
    if not bool(voting.any()):
        return 1.0 / len(which)
    latents, variance = latents[:, voting], variance[voting]
    generator = torch.Generator().manual_seed(whole_seed(seed))
    held = torch.randint(len(which), (2 * votes,), generator=generator)
    answers = torch.empty_like(held)
    values = factors.values()
    for number, k in enumerate(which):
        rows = alike(values[:, k], factors.names[k], int((held == number).sum()), group, generator)
        answers[held == number] = (latents[rows].var(1) / variance).argmin(1)
    tallies = torch.bincount(answers[:votes] * len(which) + held[:votes], minlength=len(variance) * len(which))
    meaning = tallies.view(len(variance), len(which)).argmax(1)
    return float((meaning[answers[votes:]] == held[votes:]).double().mean())


def gaussian_total_correlation(latents: Tensor) -> float:
    r"""Returns the total correlation of the Gaussian with the covariance of `latents` (N, D), nats.

    $$\frac12 \Big(\sum_j \log \Sigma_{jj} - \log\det\Sigma\Big) = -\frac12 \log\det \mathrm{corr}(z)$$

    The estimator of Locatello et al., 2019, https://arxiv.org/abs/1811.12359: exact for Gaussian latents, and a measure
    of linear dependence for others. Constant latents are left out; the value is infinite if one latent is a linear
    function of the others.

    Raises:
        ShapeError: `latents` is not (N, D) with N ≥ 2.
    """
    if latents.dim() != 2 or len(latents) < 2:
        raise ShapeError(f"Got latents of shape {tuple(latents.shape)}; expected (N, D) of at least two examples.")
    latents = latents.double()
    latents = latents[:, latents[0].ne(latents).any(0)]
    if latents.shape[1] < 2:
        return 0.0
    sign, log_determinant = torch.linalg.slogdet(torch.corrcoef(latents.T))
    return max(0.0, -0.5 * float(log_determinant)) if sign > 0 else float("inf")


def checked(latents: Tensor, factors: Factors) -> Tensor:
    """Returns the latents, float64, on the CPU; raises ShapeError or DataError unless they match the factors."""
    if latents.dim() != 2 or len(latents) != len(factors) or len(latents) < 2:
        raise ShapeError(
            f"Got latents of shape {tuple(latents.shape)} and factors of {len(factors)} examples; expected as many."
        )
    if not bool(torch.isfinite(latents).all()):
        raise DataError("Got NaN or infinite values in the latents; expected finite ones. Inspect the model.")
    return latents.detach().double().cpu()


def varying(factors: Factors) -> list[int]:
    """Returns the numbers of the factors with more than one value; raises DataError if there is none."""
    found = [k for k, values in enumerate(factors.values().T) if int(values.min()) < int(values.max())]
    if not found:
        raise DataError(
            f"Got {len(factors)} examples whose factors {shorten(factors.names)} do not vary; expected at least one "
            "that does. Use more examples, in random order."
        )
    return found


def entropy(shares: Tensor) -> Tensor:
    """Returns the entropy of histograms (..., V) whose shares sum to 1, (...), nats."""
    total: Tensor = torch.special.entr(shares).sum(-1)
    return total


def alike(values: Tensor, name: str, count: int, group: int, generator: torch.Generator) -> Tensor:
    """Returns the rows of `group` examples that share a value of a factor (N,), for `count` votes: (count, group)."""
    sizes = values.bincount()
    several = (sizes > 1).nonzero().flatten()
    if not len(several):
        raise DataError(f"Got no two examples that share a value of {name!r}; expected groups. Use more examples.")
    starts = sizes.cumsum(0) - sizes
    order = values.argsort(stable=True)
    chosen = several[torch.randint(len(several), (count,), generator=generator)]
    share = torch.rand(count, group, generator=generator, dtype=torch.float64)
    return order[starts[chosen, None] + (share * sizes[chosen, None]).long()]
