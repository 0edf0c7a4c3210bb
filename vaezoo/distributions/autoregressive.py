"""Bernoulli pixels that depend on the pixels before them."""

from collections.abc import Callable, Generator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from vaezoo.distributions.joint_sampling import sum_event
from vaezoo.errors import ShapeError


def preceding(window: int, height: int, width: int) -> list[tuple[int, int]]:
    """Returns the offsets (row, column) of the neighbors up to `window` away that precede a pixel of an H x W image.

    The order is that of reading: row by row. An image of one row has neighbors to the left alone.
    """
    rows, columns = min(window, height - 1), min(window, width - 1)
    offsets = [(row, column) for row in range(-rows, 1) for column in range(-columns, columns + 1)]
    return [offset for offset in offsets if offset < (0, 0)]


@lru_cache(maxsize=4)
def waves_of(
    height: int, width: int, offsets: tuple[tuple[int, int], ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int], NDArray[np.int64]]:
    """Returns the waves of an H x W image: pixels that do not depend on each other, given the waves before.

    Row i has its column j in wave i · s + j, where s is one more than the largest column of `offsets`: 28 x 28 pixels
    with a window of 2 have 109 waves.

    Returns:
        The places (row · W + column) of all pixels, wave by wave, (H · W,); the inverse of this permutation; the sizes
        of the waves; and the neighbors of the pixels, (T, H · W), as numbers from 1 in the same order, 0 outside of the
        image.
    """
    rows, columns = np.divmod(np.arange(height * width), width)
    waves = rows * (1 + max([0, *(column for _, column in offsets)])) + columns
    places = np.argsort(waves, kind="stable")
    numbers = np.empty(len(places), dtype=np.int64)
    numbers[places] = np.arange(1, len(places) + 1)
    near = np.zeros((len(offsets), len(places)), dtype=np.int64)
    for each, (down, right) in zip(near, offsets, strict=True):
        row, column = (rows + down)[places], (columns + right)[places]
        inside = (row >= 0) & (column >= 0) & (column < width)
        each[inside] = numbers[(row * width + column)[inside]]
    return places, numbers - 1, np.unique(waves, return_counts=True)[1].tolist(), near


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
        """Returns log P(value), (*batch), nats; all pixels at once. Raises ShapeError for another event shape."""
        x = value.to(self.logits.dtype)
        if x.shape[x.dim() - len(self.event_shape) :] != self.event_shape:
            raise ShapeError(f"Got x of shape {(*x.shape,)}; expected (…, {', '.join(map(str, self.event_shape))}).")
        x = x.reshape(*x.shape[: x.dim() - len(self.event_shape)], *self.logits.shape[-3:])
        height, width = x.shape[-2:]
        up, side = (max([abs(offset[axis]) for offset in self.offsets], default=0) for axis in (0, 1))
        around, logits = pad(x - 0.5, (side, side, up, 0)), self.logits
        for weight, (row, column) in zip(self.weights.unbind(-4), self.offsets, strict=True):
            near = around[..., up + row : up + row + height, side + column : side + column + width]
            logits = logits + weight * near
        logits, x = torch.broadcast_tensors(logits, x)
        return -sum_event(binary_cross_entropy_with_logits(logits, x, reduction="none"), 3)

    def plan(self) -> tuple[Tensor, Tensor, list[int], Tensor]:
        """Returns `waves_of` the image, as tensors."""
        height, width = self.logits.shape[-2:]
        places, inverse, sizes, near = waves_of(height, width, tuple(self.offsets))
        on_device = [torch.from_numpy(each).to(self.logits.device) for each in (places, inverse, near)]
        return on_device[0], on_device[1], sizes, on_device[2]

    def split(self, x: Tensor) -> list[Tensor]:
        """Returns (..., H, W) as waves (..., n)."""
        places, _, sizes, _ = self.plan()
        return list(torch.split(x.flatten(-2)[..., places], sizes, -1))

    def join(self, waves: Sequence[Tensor]) -> Tensor:
        """Returns waves (..., n) as (..., H, W), the inverse of `split`."""
        joined = torch.cat([*waves], -1)[..., self.plan()[1]]
        return joined.reshape(*joined.shape[:-1], *self.logits.shape[-2:])

    def steps(self) -> Generator[Tensor, Tensor, None]:
        """Yields the logits (*batch, C, n) of each wave in order; `send` its values, (*sample, *batch, C, n)."""
        _, _, sizes, near = self.plan()
        known = torch.zeros_like(self.logits[..., :1, 0])  # outside of the image, and then the values of all waves
        split = zip(
            self.split(self.logits), self.split(self.weights.movedim(-4, -3)), near.split(sizes, 1), strict=True
        )
        for logits, weights, neighbors in split:
            found = logits + (weights * known[..., neighbors]).sum(-2) if self.offsets else logits
            values = (yield found) - 0.5
            known = torch.cat([known.expand(*values.shape[:-1], -1), values], -1)

    def each(self, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns x (*batch, *event), whose pixels are what `choose` returns for their logits, wave after wave."""
        steps = self.steps()
        values = [choose(next(steps))]
        for _ in self.plan()[2][1:]:
            values.append(choose(steps.send(values[-1])))
        found = self.join(values)
        return found.reshape(*found.shape[:-3], *self.event_shape)

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
        leading = (*sample_shape, *self.batch_shape)
        with torch.no_grad():
            # The first wave has all leading dimensions, and hence all others.
            return self.each(lambda logits: torch.bernoulli(logits.sigmoid().expand(*leading, *logits.shape[-2:])))
