"""Moments of latents in one pass over batches, in float64."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from vaezoo.core import center, closed_form_rate, code_indices, has_density, sample_with_log_prob
from vaezoo.distributions import Delta, DiagonalNormal
from vaezoo.errors import CompositionError
from vaezoo.evaluation.latents import two_means

MOST_CHANNELS = 512  # of a covariance matrix, and of factors in a config


class Comoments:
    """Mean (..., K) and covariance (..., K, K) of rows (..., N, K) that arrive in batches; divided by N, not N - 1.

    Batches are merged as by Chan et al. (1983), https://doi.org/10.1080/00031305.1983.10483115, which subtracts no
    large numbers from each other.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean, self.product = torch.zeros(()), torch.zeros(())

    def add(self, rows: Tensor) -> None:
        """Adds rows (..., N, K), float64."""
        count, mean = rows.shape[-2], rows.mean(-2)
        centered = rows - mean.unsqueeze(-2)
        total, apart = self.count + count, mean - self.mean
        across = apart.unsqueeze(-1) * apart.unsqueeze(-2) * (self.count * count / total)
        self.product = self.product + centered.mT @ centered + across
        self.mean = self.mean + apart * (count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """The covariance (..., K, K)."""
        return self.product / self.count


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """One batch of latents, float64 on the CPU.

    `means` (2, B, *latent), twice the mean of the posterior, as `two_means` returns it. With its noise, the latents are
    `drawn` (B, *latent) plus independent noise of variance `noise` (B, *latent) and mean 0; without, `center`
    (B, *latent). `rates` (B,), nats, None without a density; `rates_of_each` (B, *latent), None where they do not add.
    """

    means: Tensor
    drawn: Tensor
    noise: Tensor
    center: Tensor
    rates: Tensor | None
    rates_of_each: Tensor | None


def factorized(distribution: Distribution) -> Distribution | None:
    """Returns a distribution over independent numbers with all its dimensions as batch, or None for another one."""
    if isinstance(distribution, DiagonalNormal):
        return DiagonalNormal(distribution.loc, distribution.log_scale, 0)
    if isinstance(distribution, Independent) and not distribution.base_dist.event_shape:
        return cast(Distribution, distribution.base_dist)
    return None


def latent_batch(posterior: Distribution, prior: Distribution, draws: int) -> LatentBatch:
    """Returns the facts of a batch; draws where the posterior is neither factorized nor a point, or the rate needs it.

    Args:
        posterior: q(z|x).
        prior: p(z).
        draws: for each estimate of a mean without a closed form.

    Raises:
        CompositionError: some latents are categories.
    """
    refuse_categories(posterior)
    own, its = factorized(posterior), factorized(prior)
    point = isinstance(posterior, Delta)
    exact = own is not None or point
    each = None if own is None or its is None else closed_form_rate(own, its)
    dense = has_density(posterior)
    rates = closed_form_rate(posterior, prior) if dense else None
    z = center(posterior)
    drawn, noise = z, torch.zeros_like(z)
    if own is not None:
        drawn, noise = own.mean, own.variance
    if not exact or (dense and rates is None):
        several, log_q = sample_with_log_prob(posterior, 1)
        drawn = drawn if exact else several[0]
        rates = (log_q - prior.log_prob(several))[0] if dense and rates is None else rates
    return LatentBatch(
        means=drawn.expand(2, *drawn.shape).cpu().double() if exact else two_means(posterior, draws).double().cpu(),
        drawn=drawn.cpu().double(),
        noise=noise.expand_as(z).cpu().double(),
        center=z.cpu().double(),
        rates=None if rates is None else rates.expand(len(z)).cpu().double(),
        rates_of_each=None if each is None else each.expand_as(z).cpu().double(),
    )


def refuse_categories(posterior: Distribution) -> None:
    """Raises CompositionError for latents that are categories, but not for codes, which are embedded as vectors."""
    try:
        discrete = posterior.support is not None and posterior.support.is_discrete
    except NotImplementedError:
        discrete = False
    if discrete and code_indices(posterior) is None:
        raise CompositionError(
            f"Got a {type(posterior).__name__}, whose latents are categories in whole or in part: one-hot vectors have "
            "no scale to normalize. Expected continuous latents or embedded codes; choose another variant."
        )


@dataclass(kw_only=True)
class LatentMoments:
    """Moments of the latents (C, *grid) of a data set.

    Args:
        noise: whether the moments are those of draws of the posterior, or of its centers.

    Attributes:
        examples: their number.
        channels: over examples and positions; of several channels only up to `MOST_CHANNELS`.
        latents: of two estimates of the posterior's mean and of the latents with noise, over examples, (C·P, 3).
        pairs: of each axis of the grid, of neighbors along it, over examples and positions, (C, 2).
    """

    noise: bool
    examples: int = 0
    channels: Comoments = field(default_factory=Comoments)
    latents: Comoments = field(default_factory=Comoments)
    pairs: list[Comoments] = field(default_factory=list)
    spread: Tensor = field(default_factory=lambda: torch.zeros(()))
    rate: Tensor | None = field(default_factory=lambda: torch.zeros(()))
    rates: Tensor | None = field(default_factory=lambda: torch.zeros(()))

    def add(self, batch: LatentBatch) -> None:
        """Adds a batch."""
        z = batch.drawn if self.noise else batch.center
        if not self.examples:
            self.pairs = [Comoments() for _ in z.shape[2:]]
        self.examples += len(z)
        by_channel = z.movedim(1, 0).reshape(z.shape[1], -1)  # (C, B·P)
        self.channels.add(by_channel.T if len(by_channel) <= MOST_CHANNELS else by_channel.unsqueeze(-1))
        self.latents.add(torch.stack([*batch.means, batch.drawn], -1).flatten(1, -2).movedim(0, 1))
        self.spread = self.spread + batch.noise.sum(0)
        for axis, found in enumerate(self.pairs, 2):
            if (length := z.shape[axis] - 1) > 0:
                both = torch.stack([z.narrow(axis, 0, length), z.narrow(axis, 1, length)], -1)
                found.add(both.movedim(1, 0).flatten(1, -2))
        self.rate = None if self.rate is None or batch.rates is None else self.rate + batch.rates.sum()
        each = batch.rates_of_each
        summed = None if each is None else each.reshape(len(z), len(by_channel), -1).sum((0, 2))
        self.rates = None if self.rates is None or summed is None else self.rates + summed

    @property
    def noise_of_each(self) -> Tensor:
        """The mean variance of the independent noise of each latent, (C, *grid)."""
        return self.spread / self.examples

    @property
    def added(self) -> Tensor:
        """The variance that each latent has beyond that of `channels`, (C, *grid)."""
        return self.noise_of_each if self.noise else torch.zeros_like(self.noise_of_each)

    @property
    def means(self) -> Tensor:
        """The mean of each channel, (C,)."""
        return self.channels.mean.flatten()

    @property
    def variances(self) -> Tensor:
        """The variance of each channel, (C,)."""
        return self.channels.covariance.diagonal(dim1=-2, dim2=-1).flatten() + over_positions(self.added)

    @property
    def correlation(self) -> Tensor | None:
        """The correlation of the channels, (C, C), NaN for constant ones; None for one, or above `MOST_CHANNELS`."""
        found, variances = self.channels.covariance, self.variances
        if found.dim() > 2 or len(variances) == 1:
            return None
        deviations = variances.sqrt()
        return (found + over_positions(self.added).diag()) / deviations / deviations.unsqueeze(1)

    @property
    def signals(self) -> tuple[Tensor, Tensor]:
        """The variance over examples of the posterior's mean, and of its draws, (C,) each, means over positions."""
        found = self.latents.covariance.unflatten(0, (len(self.spread), -1)).mean(1)
        return found[:, 0, 1].clamp(min=0.0), found[:, 2, 2] + over_positions(self.noise_of_each)

    def neighbors(self) -> Iterator[Tensor]:
        """Yields the correlation of neighbors along each axis of the grid, (C,), NaN where a variance is 0.

        Axes with a single position are left out.
        """
        for axis, found in enumerate(self.pairs, 1):
            if found.count:
                length = self.spread.shape[axis] - 1
                sides = [over_positions(self.added.narrow(axis, start, length)) for start in (0, 1)]
                first, second = (found.covariance[:, at, at] + side for at, side in enumerate(sides))
                yield found.covariance[:, 0, 1] / (first * second).sqrt()


def over_positions(values: Tensor) -> Tensor:
    """Returns the mean over the grid of values (C, *grid), (C,)."""
    return values.reshape(len(values), -1).mean(1)
