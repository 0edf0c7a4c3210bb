"""How well latents follow known factors: MIG, the FactorVAE score, total correlation.

All are functions of a representation, (N, D), and of the factors of its examples, so that anything that encodes can be
measured: `representation` takes a model or any function. Code bases differ in their estimators, and their figures with
them; each docstring says which one this is. The objective explains 37 % of the variance of such figures, seed and
hyperparameters the rest (Locatello et al., 2019, https://arxiv.org/abs/1811.12359): report several seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import ACTIVE_VARIANCE, VAE, center, code_indices
from vaezoo.data import Dataset, Factors
from vaezoo.errors import ConfigError, DataError, ShapeError, shorten
from vaezoo.evaluation.batches import batches

__all__ = [
    "Disentanglement",
    "disentanglement",
    "factor_vae_score",
    "gaussian_total_correlation",
    "mutual_information_gap",
    "representation",
]

Encode = Callable[[Tensor], "Tensor | Distribution"]

LEAST_VARIANCE = 0.05  # of a latent's mean: below it the FactorVAE score takes it for one that collapsed


@dataclass(frozen=True, kw_only=True)
class Disentanglement:
    """Figures of a representation on `examples` images of a set.

    `mig` and `factor_vae_score` lie between 0 and 1, higher is better; `chance` is the score of guessing. Total
    correlations, of all latents and of the `active` ones (variance above 0.01), are in nats, lower is better; they are
    0 for latents that are not correlated.
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


def disentanglement(model: VAE | Encode, data: Dataset, *, examples: int = 10_000, seed: int = 0) -> Disentanglement:
    """Measures how well the posterior's centres follow the factors of a data set.

    Args:
        model: in eval mode; or any function from x (B, *shape) to a representation, as in `representation`.
        data: a set with `factors`, such as "dsprites"; best one that was not trained on.
        examples: how many are used, chosen by `seed`; all where the set has fewer.
        seed: of this choice and of the votes of the FactorVAE score.

    Raises:
        DataError: the set has no factors, or too few examples.
        ShapeError: see `representation`.
    """
    if data.factors is None:
        raise DataError(
            f"{data.name!r} has no ground-truth factors; expected a set that has, such as 'dsprites'. For your own, "
            "pass from_tensors(x, factors=Factors.of(values, names))."
        )
    if examples < 2:
        raise DataError(f"Got examples = {examples}; expected at least 2.")
    generator = torch.Generator().manual_seed(seed)
    chosen = data.subset(torch.randperm(len(data), generator=generator)[:examples])
    means = representation(model, chosen)
    active = means.var(0) > ACTIVE_VARIANCE
    factors = data.factors if chosen.factors is None else chosen.factors
    return Disentanglement(
        data=data.name,
        split=data.split,
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


@torch.no_grad()
def representation(model: VAE | Encode, data: Dataset, *, size: int = 500) -> Tensor:
    """Returns the representation of every example of a set, (N, D), float64, on the CPU.

    Args:
        model: a model, of whose posterior the centre is taken; or any function that is given x (B, *shape), `float32`
            in [0, 1], and returns a tensor (B, …), or a distribution of which the centre is taken.
        data: the examples.
        size: how many are encoded at a time.

    Raises:
        ShapeError: what the function returns is no row for each example, or the latents are discrete codes.
        DataError: it is not finite.
    """
    means = torch.cat([rows_of(given, len(given_x)) for given_x, given in encoded(model, data, size)])
    if not bool(torch.isfinite(means).all()):
        raise DataError("Got NaN or infinite values in the representation; expected finite ones. Look at the model.")
    return means


def encoded(model: VAE | Encode, data: Dataset, size: int) -> Iterator[tuple[Tensor, object]]:
    """Yields x (B, *shape) and what becomes of it, for all examples of a set."""
    if isinstance(model, VAE):
        for x, c in batches(model, data, size):
            yield x, model.encoder(x, c)
        return
    for x in data.batches(torch.arange(len(data)).split(size)):
        yield x, model(x)


def rows_of(given: object, count: int) -> Tensor:
    """Returns (B, D) of what an encoder returned for `count` examples."""
    if isinstance(given, Distribution) and code_indices(given) is not None:
        raise ShapeError("Got a model of discrete codes; expected continuous latents, whose values have an order.")
    found = center(given) if isinstance(given, Distribution) else given
    if not isinstance(found, Tensor) or found.dim() < 2 or len(found) != count:
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ShapeError(f"Got {shape} as representation of {count} examples; expected a row for each, ({count}, D).")
    return found.flatten(1).double().cpu()


def mutual_information_gap(latents: Tensor, factors: Factors, *, bins: int = 20) -> float:
    r"""Returns the MIG, between 0 and 1: how much more the best latent tells of a factor than the second best.

    $$\frac1K \sum_k \frac{1}{H(v_k)} \Big(I(z_{j_k}; v_k) - \max_{j \ne j_k} I(z_j; v_k)\Big)$$

    Chen et al., 2018, https://arxiv.org/abs/1802.04942. The informations are those of the joint histogram of a factor
    and a latent in `bins` intervals of equal width, as in Locatello et al. (2019), not of draws from the posterior as
    in the paper. A factor of more than `bins` values cannot be told in full: it reaches log(bins) / log(size) at most.

    Args:
        latents: a representation, (N, D).
        factors: of the same examples; those with one value only are left out.
        bins: how many intervals.

    Raises:
        ShapeError, DataError, ConfigError: what was got and what was expected.
    """
    latents = checked(latents, factors)
    if bins < 2:
        raise ConfigError(f"Got bins = {bins}; expected at least 2.")
    binned, values, gaps = intervals(latents, bins), factors.values(), list[Tensor]()
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
    """Returns the FactorVAE score, between 0 and 1: how well one tells a held factor from the latent that varies least.

    Kim and Mnih, 2018, https://arxiv.org/abs/1802.05983, section 4: for each vote a factor is drawn and held at one
    value in a group of examples; the vote is the latent whose variance in the group, over that in all, is the least.
    Each latent then stands for the factor that most of its votes came from. As in Locatello et al. (2019), the score is
    the share of right answers on votes of their own, and latents of variance below 0.05 do not vote.

    Args:
        latents: a representation, (N, D).
        factors: of the same examples; those with one value only are left out.
        votes: how many teach, and again how many are counted.
        group: examples of a vote, drawn with replacement.
        seed: of the votes.

    Raises:
        ShapeError, DataError, ConfigError: what was got and what was expected.
    """
    latents = checked(latents, factors)
    if votes < 1 or group < 2:
        raise ConfigError(f"Got votes = {votes} and group = {group}; expected at least 1 and 2.")
    which = varying(factors)
    variance = latents.var(0)
    voting = variance >= LEAST_VARIANCE
    if not bool(voting.any()):
        return 1.0 / len(which)
    latents, variance = latents[:, voting], variance[voting]
    generator = torch.Generator().manual_seed(seed)
    held = torch.randint(len(which), (2 * votes,), generator=generator)
    answers = torch.empty_like(held)
    values = factors.values()
    for number, k in enumerate(which):
        rows = alike(values[:, k], factors.names[k], int((held == number).sum()), group, generator)
        answers[held == number] = (latents[rows].var(1) / variance).argmin(1)
    taught = torch.bincount(answers[:votes] * len(which) + held[:votes], minlength=len(variance) * len(which))
    meaning = taught.view(len(variance), len(which)).argmax(1)
    return float((meaning[answers[votes:]] == held[votes:]).double().mean())


def gaussian_total_correlation(latents: Tensor) -> float:
    r"""Returns the total correlation of the Gaussian with the covariance of `latents` (N, D), nats.

    $$\frac12 \Big(\sum_j \log \Sigma_{jj} - \log\det\Sigma\Big) = -\frac12 \log\det \mathrm{corr}(z)$$

    The estimator of Locatello et al., 2019, https://arxiv.org/abs/1811.12359: exact for Gaussian latents, and a measure
    of linear dependence for others. Latents that do not vary at all are left out; it is infinite where one is a linear
    function of the others.

    Raises:
        ShapeError: `latents` is no (N, D) with N ≥ 2.
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
    """Returns the latents, float64, on the CPU; raises ShapeError or DataError unless they are those of the factors."""
    if latents.dim() != 2 or len(latents) != len(factors) or len(latents) < 2:
        raise ShapeError(
            f"Got latents of shape {tuple(latents.shape)} and factors of {len(factors)} examples; expected (N, D), N."
        )
    if not bool(torch.isfinite(latents).all()):
        raise DataError("Got NaN or infinite values in the latents; expected finite ones. Look at the model.")
    return latents.detach().double().cpu()


def varying(factors: Factors) -> list[int]:
    """Returns the factors that have more than one value among the examples; raises DataError if there is none."""
    values = factors.values()
    found = [k for k in range(len(factors.names)) if int(values[:, k].min()) < int(values[:, k].max())]
    if not found:
        raise DataError(
            f"Got {len(factors)} examples whose factors {shorten(factors.names)} do not vary; expected at least one "
            "that does. Take more examples, in an order of chance."
        )
    return found


def intervals(latents: Tensor, bins: int) -> Tensor:
    """Returns in which of `bins` intervals of equal width, from least to greatest, each value lies, int64 (N, D)."""
    low, high = latents.amin(0), latents.amax(0)
    share = (latents - low) / (high - low).clamp(min=torch.finfo(latents.dtype).tiny)
    return (share * bins).long().clamp(0, bins - 1)


def entropy(shares: Tensor) -> Tensor:
    """Returns the entropy of histograms (..., V) whose shares sum to 1, (...), nats."""
    total: Tensor = torch.special.entr(shares).sum(-1)
    return total


def alike(values: Tensor, name: str, count: int, group: int, generator: torch.Generator) -> Tensor:
    """Returns for `count` votes the rows of `group` examples that share a value, int64 (count, group).

    Args:
        values: of one factor, (N,).
        name: of the factor.
        count: how many votes.
        group: how many examples.
        generator: what chooses the value, and the examples.

    Raises:
        DataError: hardly any example shares its value with another.
    """
    sizes = values.bincount()
    several = (sizes > 1).nonzero().flatten()
    if not len(several):
        raise DataError(f"Got no two examples that share a value of {name!r}; expected groups. Take more examples.")
    starts = sizes.cumsum(0) - sizes
    order = values.argsort(stable=True)
    chosen = several[torch.randint(len(several), (count,), generator=generator)]
    share = torch.rand(count, group, generator=generator, dtype=torch.float64)
    return order[starts[chosen, None] + (share * sizes[chosen, None]).long()]
