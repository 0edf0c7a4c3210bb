"""Bernoulli pixels that depend on the pixels before them."""

from collections.abc import Callable, Generator, Sequence

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

    def steps(self) -> Generator[Tensor, Tensor, None]:
        """Yields the logits (*batch, C) of each pixel in order; `send` the values (*batch, C) of the one before."""
        height, width = self.logits.shape[-2:]
        weights, outside = self.weights.movedim(-4, -1), torch.zeros_like(self.logits[..., 0, 0])
        known: dict[tuple[int, int], Tensor] = {}
        for row in range(height):
            for column in range(width):
                logits = self.logits[..., row, column]
                if self.offsets:
                    near = [known.get((row + down, column + right), outside) for down, right in self.offsets]
                    logits = logits + (weights[..., row, column, :] * torch.stack(near, -1)).sum(-1)
                known[row, column] = (yield logits) - 0.5

    def each(self, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns x (*batch, *event), whose pixels are what `choose` returns for their logits, one after the other."""
        steps = self.steps()
        values = [choose(next(steps))]
        for _ in range(1, self.logits.shape[-2:].numel()):
            values.append(choose(steps.send(values[-1])))
        return torch.stack(values, -1).reshape(*self.batch_shape, *self.event_shape)

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
