"""Bernoulli pixels that depend on the pixels before them."""

from collections.abc import Callable, Generator, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from vaezoo.distributions.joint_sampling import sum_event


def preceding(window: int, height: int, width: int) -> list[tuple[int, int]]:
    """Returns the offsets (row, column) of the neighbors up to `window` away that precede a pixel of an H x W image.

    The order is that of reading: row by row. An image of one row has neighbors to the left alone.
    """
    rows, columns = min(window, height - 1), min(window, width - 1)
    offsets = [(row, column) for row in range(-rows, 1) for column in range(-columns, columns + 1)]
    return [offset for offset in offsets if offset < (0, 0)]


@lru_cache(maxsize=16)
def waves_of(
    height: int, width: int, offsets: tuple[tuple[int, int], ...]
) -> tuple[list[list[int]], list[list[list[int]]]]:
    """Returns the waves of an H x W image: pixels that do not depend on each other, given the waves before.

    Returns:
        The places (row · W + column) of the n pixels of each wave; and for each wave the T x n neighbors of its pixels,
        as numbers from 1 in the order of all waves, 0 outside of the image. Row i has its column j in wave i · s + j,
        where s is one more than the largest column to the right: 28 x 28 pixels with a window of 2 have 109 waves.
    """
    slope = 1 + max([0, *(column for _, column in offsets)])
    waves: dict[int, list[tuple[int, int]]] = {}
    for row in range(height):
        for column in range(width):
            waves.setdefault(row * slope + column, []).append((row, column))
    ordered = [waves[number] for number in sorted(waves)]
    numbers = {pixel: number for number, pixel in enumerate((each for wave in ordered for each in wave), 1)}
    near = [[[numbers.get((i + down, j + right), 0) for i, j in wave] for down, right in offsets] for wave in ordered]
    return [[i * width + j for i, j in wave] for wave in ordered], near


class AutoregressiveBernoulliPixels(Distribution):
    r"""Bernoulli pixels whose logits are linear in the neighbors that precede them, row by row.

    $$P(x) = \prod_i \mathrm{Bernoulli}\Big(x_i;\, \sigma\big(a_i + \sum_t w_{it}\,(x_{i+t} - 1/2)\big)\Big)$$

    The sum is over the T offsets of `preceding`; neighbors outside of the image add nothing, and the channels do not
    depend on each other. `log_prob` also takes gray values in [0, 1]: it is then a loss, not a log-likelihood.

    Args:
        logits: a, (*batch, C, H, W).
        weights: w, (*batch, T, C, H, W).
        offsets: row and column of each neighbor relative to its pixel, T pairs below (0, 0).
        event: the event shape, of C · H · W elements.
    """

    arg_constraints = {"logits": constraints.real, "weights": constraints.real}  # noqa: RUF012  (as torch declares it)

    def __init__(
        self, logits: Tensor, weights: Tensor, offsets: Sequence[tuple[int, int]], event: Sequence[int]
    ) -> None:
        self.logits, self.weights, self.offsets = logits, weights, offsets
        super().__init__(logits.shape[:-3], torch.Size(event), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """0 or 1 at each pixel."""
        return constraints.independent(constraints.boolean, len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Returns log P(value), (*batch), nats; all pixels at once."""
        x = value.to(self.logits.dtype)
        x = x.reshape(*x.shape[: x.dim() - len(self.event_shape)], *self.logits.shape[-3:])
        height, width = x.shape[-2:]
        up, side = (max([abs(offset[axis]) for offset in self.offsets], default=0) for axis in (0, 1))
        around, logits = pad(x - 0.5, (side, side, up, 0)), self.logits
        for weight, (row, column) in zip(self.weights.unbind(-4), self.offsets, strict=True):
            near = around[..., up + row : up + row + height, side + column : side + column + width]
            logits = logits + weight * near
        logits, x = torch.broadcast_tensors(logits, x)
        return -sum_event(binary_cross_entropy_with_logits(logits, x, reduction="none"), 3)

    @property
    def waves(self) -> list[list[int]]:
        """The places of the pixels of each wave, see `waves_of`."""
        return self._plan()[0]

    def _plan(self) -> tuple[list[list[int]], list[list[list[int]]]]:
        height, width = self.logits.shape[-2:]
        return waves_of(height, width, tuple(self.offsets))

    def split(self, x: Tensor) -> list[Tensor]:
        """Returns (..., H, W) as waves (..., n)."""
        places = [place for wave in self.waves for place in wave]
        return list(torch.split(x.flatten(-2)[..., places], [len(wave) for wave in self.waves], -1))

    def join(self, waves: Sequence[Tensor]) -> Tensor:
        """Returns waves (..., n) as (..., H, W), the inverse of `split`."""
        places = [place for wave in self.waves for place in wave]
        order = sorted(range(len(places)), key=places.__getitem__)
        joined = torch.cat([*waves], -1)[..., order]
        return joined.reshape(*joined.shape[:-1], *self.logits.shape[-2:])

    def steps(self) -> Generator[Tensor, Tensor, None]:
        """Yields the logits (*batch, C, n) of each wave in order; `send` its values, (*batch, C, n)."""
        known = torch.zeros_like(self.logits[..., :1, 0])  # outside of the image, and then the values of all waves
        split = zip(self.split(self.logits), self.split(self.weights.movedim(-4, -3)), self._plan()[1], strict=True)
        for logits, weights, near in split:
            found = logits + (weights * known[..., near]).sum(-2) if self.offsets else logits
            known = torch.cat([known, (yield found) - 0.5], -1)

    def each(self, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns x (*batch, *event), whose pixels are what `choose` returns for their logits, wave after wave."""
        steps = self.steps()
        values = [choose(next(steps))]
        for _ in self.waves[1:]:
            values.append(choose(steps.send(values[-1])))
        return self.join(values).reshape(*self.batch_shape, *self.event_shape)

    @property
    def mean(self) -> Tensor:
        """Probabilities (*batch, *event): those of each pixel, with the probabilities of its neighbors as their values.

        They are the exact means where the weights are 0; the exact ones of others are a sum over all images.
        """
        return self.each(torch.sigmoid)

    @property
    def mode(self) -> Tensor:
        """The likelier value of each pixel (*batch, *event), given those chosen before it."""
        return self.each(lambda logits: (logits > 0).to(logits.dtype))

    def sample(self, sample_shape: Sequence[int] = torch.Size()) -> Tensor:
        """Returns binary pixels, (*sample, *batch, *event)."""
        logits, weights = (each.expand(*sample_shape, *each.shape) for each in (self.logits, self.weights))
        with torch.no_grad():
            every = AutoregressiveBernoulliPixels(logits, weights, self.offsets, self.event_shape)
            return every.each(lambda each: torch.bernoulli(each.sigmoid()))
