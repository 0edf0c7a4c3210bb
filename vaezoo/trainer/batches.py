"""Batches and noise as functions of (seed, step, micro-batch)."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from vaezoo.data import Dataset, StreamedDataset, sample_binary
from vaezoo.errors import DataError
from vaezoo.recipe import Stage

__all__ = ["BatchStream", "noise_seed", "reseed", "stage_steps"]

# Steps count from 0; what else draws noise has a number of its own below 0.
BUILD, ORDER, START, START_IMAGES, HELD_OUT, LABELLED_ORDER = -1, -2, -3, -4, -5, -6


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


@dataclass(frozen=True, kw_only=True)
class ExamplePool:
    """Examples that are gone through together: `rows` of `count` in each batch; `places` (count,), None for all."""

    rows: int
    count: int
    places: Tensor | None = None

    def __len__(self) -> int:
        """Returns how many examples there are."""
        return self.count

    @property
    def batches(self) -> int:
        """How many batches go through them once."""
        return self.count // self.rows


def pools_of(data: Dataset, size: int, labelled_share: float) -> list[ExamplePool]:
    """Returns the one pool of all examples, or those without a label and those with one.

    Raises:
        DataError: a share is asked for, and there are no labels, or none is unknown, or a batch cannot hold both.
    """
    if not labelled_share:
        return [ExamplePool(rows=size, count=len(data))]
    labels = torch.full((len(data),), -1) if data.labels is None else data.labels.cpu()
    known, unknown = (labels >= 0).nonzero().flatten(), (labels < 0).nonzero().flatten()
    rows = min(max(1, round(labelled_share * size)), len(known))
    if not len(known) or not len(unknown) or not 0 < size - rows <= len(unknown):
        raise DataError(
            f"Got labelled_share = {labelled_share:g} of {size} examples a batch, {len(known)} with a label and "
            f"{len(unknown)} without; expected both kinds in each batch. Leave it out, or set data.labels."
        )
    return [
        ExamplePool(rows=size - rows, count=len(unknown), places=unknown),
        ExamplePool(rows=rows, count=len(known), places=known),
    ]


class BatchStream:
    """Batches of a data set, as a function of their number: epoch by epoch, each in a new order, remainders dropped.

    Args:
        data: the examples; moved to `device` as a whole, or streamed to it batch by batch.
        batch_size: examples in a batch; all of them where the set has fewer.
        device: where batches are made.
        seed: of the recipe.
        context: width of the context that is given with each example, 0 for none.
        labelled_share: of each batch, the examples whose label is known; 0 takes all examples as they come. Those with
            a label and those without are gone through each on their own; an epoch is as many batches as without it.

    Attributes:
        stride: from one batch that is taken here to the next: how many processes share the batches.
    """

    stride = 1

    def __init__(
        self,
        data: Dataset,
        batch_size: int,
        device: torch.device,
        *,
        seed: int,
        context: int,
        labelled_share: float = 0.0,
    ) -> None:
        self.data = data.to(device)
        self.size = min(batch_size, len(data))
        self._pools = pools_of(data, self.size, labelled_share)
        self.per_epoch = len(data) // self.size
        self.seed, self.device = seed, device
        self.dynamic = data.binarization == "dynamic"
        self._context, self._labels = (data.context, data.labels) if context else (None, None)
        if self._context is not None:
            self._context = self._context.to(device, torch.float32)
        elif self._labels is not None:
            self._labels = self._labels.to(device)
            # A row more than there are classes: the last one, which -1 takes, is that of an unknown label.
            self._one_hot = torch.eye(context + 1, context, device=device)
        # On a GPU the order of a set in memory is there too; workers want theirs here.
        self._home = torch.device("cpu") if isinstance(data, StreamedDataset) else device
        self._orders: list[dict[int, Tensor]] = [{} for _ in self._pools]
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
        return sample_binary(x) if self.dynamic else x, self.context_of(indices)

    def _places(self, number: int) -> Tensor:
        return torch.cat([self._part(index, number) for index in range(len(self._pools))])

    def _part(self, index: int, number: int) -> Tensor:
        """Returns which examples of one pool are in batch `number`."""
        pool, orders = self._pools[index], self._orders[index]
        epoch, position = divmod(number, pool.batches)
        if epoch not in orders:
            generator = torch.Generator().manual_seed(noise_seed(self.seed, (ORDER, LABELLED_ORDER)[index], epoch))
            order = torch.randperm(len(pool), generator=generator)
            order = order.to(self._home) if pool.places is None else pool.places[order].to(self._home)
            # Two are kept: what reads ahead is in the next epoch while training ends this one.
            orders = self._orders[index] = {**dict(list(orders.items())[-1:]), epoch: order}
        return orders[epoch][position * pool.rows : (position + 1) * pool.rows]
