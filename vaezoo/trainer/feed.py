"""Batches and noise as functions of (seed, step, micro-batch)."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from itertools import count

import torch
from torch import Tensor

from vaezoo.data import Dataset, StreamedDataset, draw
from vaezoo.recipe import Stage

__all__ = ["Feed", "noise_seed", "reseed", "stage_steps"]

# Steps count from 0; what else draws noise has a number of its own below 0.
BUILD, ORDER, START, START_IMAGES, HELD_OUT = -1, -2, -3, -4, -5


def noise_seed(seed: int, step: int, micro: int) -> int:
    """Returns 63 bits that depend on all three."""
    digest = hashlib.blake2b(b"%d,%d,%d" % (seed, step, micro), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(device: torch.device, seed: int, step: int, micro: int) -> None:
    """Seeds the generators that a micro-batch on `device` draws from."""
    number = noise_seed(seed, step, micro)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


def stage_steps(stage: Stage, examples: int, processes: int = 1) -> int:
    """Returns how many optimizer steps a stage takes on a set of `examples`, at least one."""
    per_epoch = examples // min(stage.batch_size, examples)
    return stage.steps or max(1, stage.epochs * per_epoch // (stage.accumulation * processes))


class Feed:
    """Batches of a data set, as a function of their number: epoch by epoch, each in a new order, remainders dropped.

    Args:
        data: the examples; moved to `device` as a whole, or streamed to it batch by batch.
        batch_size: examples in a batch; all of them where the set has fewer.
        device: where batches are made.
        seed: of the recipe.
        context: width of the context that is given with each example, 0 for none.

    Attributes:
        stride: from one batch that is taken here to the next: how many processes share the batches.
    """

    stride = 1

    def __init__(self, data: Dataset, batch_size: int, device: torch.device, *, seed: int, context: int) -> None:
        self.data = data.to(device)
        self.size = min(batch_size, len(data))
        self.per_epoch = len(data) // self.size
        self.seed, self.device = seed, device
        self.dynamic = data.binarization == "dynamic"
        self._context, self._labels = (data.context, data.labels) if context else (None, None)
        if self._context is not None:
            self._context = self._context.to(device, torch.float32)
        elif self._labels is not None:
            self._labels = self._labels.to(device)
            self._one_hot = torch.eye(context, device=device)
        # On a GPU the order of a set in memory is there too; workers want theirs here.
        self._home = torch.device("cpu") if isinstance(data, StreamedDataset) else device
        self._orders: dict[int, Tensor] = {}
        self._ahead: Generator[Tensor, None, None] | None = None
        self._next = 0

    def indices(self, number: int) -> Tensor:
        """Returns which examples are in batch `number`, (B,)."""
        return self._places(number).to(self.device)

    def batch(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Returns `take(indices(number))`; where images are streamed, the batches that follow are read ahead.

        Raises:
            DataError: an image cannot be read.
        """
        if self._ahead is None or number != self._next:
            self.close()
            self._ahead = self.data.batches(self._places(each) for each in count(number, self.stride))
        self._next = -1  # what fails is begun anew
        x = next(self._ahead)
        self._next = number + self.stride
        return self._given(x, self.indices(number))

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns x (B, *shape) and the context (B, C) or None of examples; a dynamic binarization is drawn here."""
        return self._given(self.data.batch(indices), indices)

    def whole(self, rows: int, first: int = 0, every: int = 1) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yields `take` of all examples in the order of the set, `rows` at a time; streamed ones are read ahead.

        Of these parts `first` is the first one, and then each `every`th.
        """
        parts = torch.arange(len(self.data), device=self._home).split(rows)[first::every]
        for indices, x in zip(parts, self.data.batches(parts), strict=True):
            yield self._given(x, indices.to(self.device))

    def close(self) -> None:
        """Ends the processes that read ahead, if there are any."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def context_of(self, indices: Tensor) -> Tensor | None:
        """Returns the context (B, C) of examples, None where none is given."""
        if self._context is not None:
            return self._context[indices]
        return None if self._labels is None else self._one_hot[self._labels[indices]]

    def _given(self, x: Tensor, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        return draw(x) if self.dynamic else x, self.context_of(indices)

    def _places(self, number: int) -> Tensor:
        epoch, position = divmod(number, self.per_epoch)
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(noise_seed(self.seed, ORDER, epoch))
            order = torch.randperm(len(self.data), generator=generator).to(self._home)
            # Two are kept: what reads ahead is in the next epoch while training ends this one.
            self._orders = {**dict(list(self._orders.items())[-1:]), epoch: order}
        return self._orders[epoch][position * self.size : (position + 1) * self.size]
