"""Disentanglement scores of latents and factors: MIG, modularity, the FactorVAE score, total correlation.

Estimators differ between code bases; each docstring states the one in use.
"""

import torch
from torch import Tensor

from vaezoo.core import whole_number, whole_seed
from vaezoo.data import Factors
from vaezoo.errors import ConfigError, DataError, ShapeError, shorten

LEAST_VARIANCE = 0.05  # the FactorVAE score treats latents with a smaller variance of the mean as collapsed


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
    found, entropies = informations(latents, factors, bins)
    best = torch.cat([found, found.new_zeros(1, found.shape[1])]).topk(2, dim=0).values
    return float(((best[0] - best[1]) / entropies).mean())


def modularity(latents: Tensor, factors: Factors, *, bins: int = 20) -> float:
    r"""Returns the modularity, between 0 and 1: whether each latent has information on one factor alone.

    $$\frac1D \sum_j \Big(1 - \frac{\sum_{k \ne k_j} I(z_j; v_k)^2}{(K - 1)\, I(z_j; v_{k_j})^2}\Big)$$

    with $k_j$ the factor of the largest mutual information (Ridgeway and Mozer, 2018,
    https://arxiv.org/abs/1802.05312), estimated as in `mutual_information_gap`. A latent without information counts
    0, as in Locatello et al. (2019). It is high also for latents that share a factor.

    Args:
        latents: a representation, (N, D).
        factors: factors of the same examples, at least two that vary.
        bins: number of intervals.

    Raises:
        ShapeError, DataError, ConfigError: an argument is invalid.
    """
    squares = informations(latents, factors, bins)[0].square()
    if squares.shape[1] < 2:
        raise DataError(f"Got factors {shorten(factors.names)}, of which one varies; expected at least two.")
    largest = squares.amax(1)
    others = (squares.sum(1) - largest) / (largest * (squares.shape[1] - 1)).clamp(min=torch.finfo(squares.dtype).tiny)
    return float(torch.where(largest > 0, 1.0 - others, 0.0).mean())


def informations(latents: Tensor, factors: Factors, bins: int) -> tuple[Tensor, Tensor]:
    """Returns mutual informations (D, K) of latents and the factors that vary, and their entropies (K,), nats.

    Raises:
        ShapeError, DataError, ConfigError: an argument is invalid.
    """
    latents = checked(latents, factors)
    if bins < 2:
        raise ConfigError(f"Got bins = {bins}; expected at least 2.")
    low, high = latents.amin(0), latents.amax(0)
    share = (latents - low) / (high - low).clamp(min=torch.finfo(latents.dtype).tiny)
    binned, values = (share * bins).long().clamp(0, bins - 1), factors.values()
    columns, entropies = list[Tensor](), list[Tensor]()
    for k in varying(factors):
        size = factors.sizes[k]
        counts = torch.stack([
            torch.bincount(column * size + values[:, k], minlength=bins * size).view(bins, size) for column in binned.T
        ]).double() / len(latents)  # fmt: skip
        columns.append(entropy(counts.sum(2)) + entropy(counts.sum(1)) - entropy(counts.flatten(1)))
        entropies.append(entropy(counts[0].sum(0)))
    return torch.stack(columns, 1).clamp(min=0.0), torch.stack(entropies)


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
