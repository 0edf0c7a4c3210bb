"""The masses of x under p(x|z), as symbols: the index of the level of each element."""

from contextlib import suppress

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaezoo.core import VAE, as_part
from vaezoo.distributions import (
    AutoregressiveBernoulliPixels,
    BernoulliPixels,
    CategoricalPixels,
    DiscretizedLogisticPixels,
    LogisticMixturePixels,
)
from vaezoo.distributions.pixels import log_mass_of_level
from vaezoo.errors import CompositionError, NoDensityError
from vaezoo.likelihoods import LevelsLikelihood
from vaezoo.likelihoods.bernoulli import Bernoulli
from vaezoo.storage.compression.stack import BitStack, Masses, bernoulli, table

SUPPORTED = "bernoulli, autoregressive-bernoulli, discretized-logistic, logistic-mixture or categorical"


def levels_of(model: VAE) -> int:
    """Returns the number of values of an element of x under a likelihood that is a probability mass.

    Raises:
        NoDensityError: the likelihood is no mass.
        CompositionError: a mass of another kind.
    """
    likelihood = as_part(model.decoder).likelihood
    name = type(likelihood).__name__
    if likelihood is None or not likelihood.mass:
        raise NoDensityError(
            f"Got a model with a {name} likelihood, which gives x no probability; lossless compression expected one "
            f"that does: {SUPPORTED}."
        )
    if isinstance(likelihood, LevelsLikelihood):
        return likelihood.levels
    if isinstance(likelihood, Bernoulli):
        return 2
    raise CompositionError(f"Got a model with a {name} likelihood; compression supports {SUPPORTED}.")


def push_pixels(stack: BitStack, likelihood: Distribution, levels: Tensor) -> None:
    """Pushes the levels (*shape) of one example; the distribution has a batch of one."""
    steps = steps_of(likelihood)
    if steps is None:
        stack.push(levels.flatten(), masses_of(likelihood))
        return
    rows = steps.split(levels)
    masses = [steps.next(row) for row in rows]  # in the order of `pop_pixels`
    for row, each in zip(reversed(rows), reversed(masses), strict=True):
        stack.push(row, each)


def pop_pixels(stack: BitStack, likelihood: Distribution) -> Tensor:
    """Returns the levels (*shape) of one example, int64."""
    steps = steps_of(likelihood)
    if steps is None:
        found = stack.pop(masses_of(likelihood))
    else:
        found = steps.join([steps.popped(stack) for _ in range(steps.count)])
    return found.reshape(likelihood.event_shape)


def masses_of(likelihood: Distribution) -> Masses:
    """Returns the masses of the levels of independent elements of x."""
    if type(likelihood) is BernoulliPixels:
        return bernoulli(likelihood.mean.flatten())
    if isinstance(likelihood, CategoricalPixels):
        return table(likelihood.logits.movedim(likelihood.dim, -1).reshape(-1, likelihood.levels).softmax(-1))
    if isinstance(likelihood, DiscretizedLogisticPixels):
        loc, log_scale = (each.reshape(-1, 1) for each in (likelihood.loc, likelihood.log_scale))
        return table(log_mass_of_level(values(likelihood.levels, loc), loc, log_scale, likelihood.levels).exp())
    raise CompositionError(
        f"Got p(x|z) of type {type(likelihood).__name__}; compression supports the likelihoods {SUPPORTED}."
    )


def values(levels: int, like: Tensor) -> Tensor:
    """Returns the values of all levels, (levels,)."""
    return torch.arange(levels, dtype=like.dtype, device=like.device) / (levels - 1)


class Steps:
    """The masses of some elements of x after the other, given those before; `count` is the number of steps."""

    count: int

    def split(self, levels: Tensor) -> list[Tensor]:
        """Returns the levels (*shape) of the elements of each step, (N,)."""
        raise NotImplementedError

    def join(self, rows: list[Tensor]) -> Tensor:
        """Returns the levels of all elements, the inverse of `split` but for the shape."""
        raise NotImplementedError

    def following(self) -> Masses:
        """Returns the masses of the next step, given those that were appended."""
        raise NotImplementedError

    def append(self, row: Tensor) -> None:
        """Continues with the levels (N,) of the step."""
        raise NotImplementedError

    def next(self, row: Tensor) -> Masses:
        """Returns the masses of the next step, whose levels (N,) are known."""
        masses = self.following()
        self.append(row)
        return masses

    def popped(self, stack: BitStack) -> Tensor:
        """Returns the levels (N,) of the next step."""
        row = stack.pop(self.following())
        self.append(row)
        return row


def steps_of(likelihood: Distribution) -> Steps | None:
    """Returns the steps of a distribution, a batch of one, whose elements depend on each other; None for another."""
    if isinstance(likelihood, LogisticMixturePixels):
        return MixtureSteps(likelihood)
    return NeighborSteps(likelihood) if isinstance(likelihood, AutoregressiveBernoulliPixels) else None


class NeighborSteps(Steps):
    """The masses of the waves of Bernoulli pixels that depend on their neighbors."""

    def __init__(self, pixels: AutoregressiveBernoulliPixels) -> None:
        self.pixels, self.count = pixels, len(pixels.plan()[2])
        self.steps = pixels.steps()
        self.logits = next(self.steps)

    def split(self, levels: Tensor) -> list[Tensor]:
        """Returns the levels of the channels of each wave, (C · n,)."""
        return [wave.flatten() for wave in self.pixels.split(levels.view(self.pixels.logits.shape[-3:]))]

    def join(self, rows: list[Tensor]) -> Tensor:
        """Returns the levels (C, H, W)."""
        return self.pixels.join([row.view(self.pixels.logits.shape[-3], -1) for row in rows])

    def following(self) -> Masses:
        """Returns the masses of the next wave, (C · n,)."""
        return bernoulli(self.logits.flatten().sigmoid())

    def append(self, row: Tensor) -> None:
        """Continues with the levels (C · n,) of the wave."""
        with suppress(StopIteration):  # after the last one
            self.logits = self.steps.send(row.to(self.logits).view_as(self.logits))


class MixtureSteps(Steps):
    """The masses of the channels of a mixture of logistics."""

    def __init__(self, mixture: LogisticMixturePixels) -> None:
        self.mixture = mixture
        self.count = mixture.loc.shape[-2]
        self.log_weights = mixture.logits.flatten(0, -3).squeeze(0).log_softmax(-2)  # (K, N), given what is before
        self.before = mixture.loc[..., :1, :0, :]
        self.joint = self.log_weights

    def split(self, levels: Tensor) -> list[Tensor]:
        """Returns the levels of each channel, (N,)."""
        return [*levels.reshape(self.mixture.loc.shape[-2:])]

    def join(self, rows: list[Tensor]) -> Tensor:
        """Returns the levels (C, N)."""
        return torch.stack(rows)

    def following(self) -> Masses:
        """Returns the masses of the next channel, (N, levels)."""
        channel, levels = self.before.shape[-2], self.mixture.levels
        loc = self.mixture.locations(channel, self.before).flatten(0, -3).squeeze(0)  # (K, N)
        log_scale = self.mixture.log_scale[..., channel, :].flatten(0, -3).squeeze(0)
        each = log_mass_of_level(values(levels, loc), loc.unsqueeze(-1), log_scale.unsqueeze(-1), levels)
        self.joint = each + self.log_weights.unsqueeze(-1)  # (K, N, levels)
        return table(self.joint.logsumexp(0).exp())

    def append(self, row: Tensor) -> None:
        """Updates the weights of the components by the levels (N,) of the channel."""
        chosen = self.joint.gather(-1, row.view(1, -1, 1).expand(len(self.joint), -1, 1)).squeeze(-1)
        self.log_weights = chosen.log_softmax(0)
        value = row.to(self.before.dtype) / (self.mixture.levels - 1)
        new = value.expand(*self.before.shape[:-2], 1, len(row))
        self.before = torch.cat([self.before, new], -2)
