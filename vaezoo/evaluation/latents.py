"""Activity of latents and use of codes."""

import math
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import ACTIVE_VARIANCE, VAE, code_indices, evaluating, exact_mean, sample_with_log_prob, seeded
from vaezoo.data import Dataset
from vaezoo.errors import ShapeError
from vaezoo.evaluation.batches import batches
from vaezoo.evaluation.test_sets import test_set

# Draws for each estimate of a mean, times the root of the number of examples: the variance of an unused latent whose
# posterior has variance 1 is then 0 ± 1/400, far below the limit of 0.01.
PRECISION = 400
LEAST_DRAWS = 8


def active_units(model: VAE, data: object, *, seed: int = 0) -> int:
    """Returns the number of active latents: those whose posterior mean has a variance above 0.01 over the set.

    Burda et al., 2016, https://arxiv.org/abs/1509.00519, section 5.2. See `encoded` for the means.

    Raises:
        ShapeError: the latents are discrete codes; see `perplexity`.
    """
    with evaluating(model):
        _, variances = encoded(model, test_set(model, data), seed=seed)
    if variances is None:
        raise ShapeError("Got a model of discrete codes, whose latents have no mean. Use perplexity(indices).")
    return int((variances > ACTIVE_VARIANCE).sum())


def encoded(
    model: VAE, data: Dataset, *, seed: int = 0, batch_size: int | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """Returns code indices (N, *grid), int64, or None; and the variance over the set of each latent's posterior mean.

    The variances are (D,), float64, or None for a model of codes. The mean of a categorical latent is its vector of
    probabilities. A mean without a closed form (flows, hierarchies, Hamiltonian dynamics) is estimated twice from
    independent draws; the covariance of the two estimates is the variance of the mean without bias.

    Args:
        model: a model, in eval mode.
        data: the examples.
        seed: seed of the draws.
        batch_size: examples at a time; see `batches`.
    """
    codes, means = list[Tensor](), list[Tensor]()
    draws = draws_for(len(data))
    with seeded(seed):
        for x, c in batches(model, data, batch_size):
            posterior = cast(Distribution, model.encoder(x, c))
            if (indices := code_indices(posterior)) is not None:
                codes.append(indices)
            else:
                means.append(two_means(posterior, draws).flatten(2).double().cpu())
    if codes:
        return torch.cat(codes), None
    one, other = (each - each.mean(0) for each in torch.cat(means, 1))
    return None, (one * other).sum(0) / max(len(one) - 1, 1)


def draws_for(examples: int) -> int:
    """Returns the number of draws for each estimate of a mean, of so many examples."""
    return max(LEAST_DRAWS, math.ceil(PRECISION / math.sqrt(examples)))


@torch.no_grad()
def two_means(posterior: Distribution, draws: int) -> Tensor:
    """Returns the mean of a posterior twice, (2, B, *latent): the exact one, or two estimates from `draws` each."""
    if (mean := exact_mean(posterior)) is not None:
        return mean.expand(2, *mean.shape)
    sums = [sum(sample_with_log_prob(posterior, 1)[0][0] for _ in range(draws)) for _ in range(2)]
    return torch.stack(cast("list[Tensor]", sums)) / draws


def perplexity(indices: Tensor) -> float:
    """Returns the perplexity of a histogram of codes, exp of its entropy: the effective number of codes in use.

    Args:
        indices: code indices of a whole set, of any shape, int64.
    """
    shares = torch.bincount(indices.flatten()).double() / indices.numel()
    return float(torch.special.entr(shares).sum().exp())
