"""Batches and noise as functions of (seed, step, micro-batch)."""

import hashlib
from collections.abc import Generator, Iterator
from itertools import count, islice

import torch
from torch import Tensor

from vaezoo.data import Dataset, EndlessDataset, StreamedDataset, augment, sample_binary
from vaezoo.data.items import Example
from vaezoo.errors import DataError
from vaezoo.recipe import Stage

# Steps count from 0; other uses of noise have negative numbers.
BUILD, ORDER, START, START_IMAGES, HELD_OUT, LABELLED_ORDER, AUGMENTATION = -1, -2, -3, -4, -5, -6, -7


def noise_seed(seed: int, step: int, micro: int) -> int:
    """Returns 63 bits that depend on all three."""
    digest = hashlib.blake2b(b"%d,%d,%d" % (seed, step, micro), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stage_steps(stage: Stage, examples: int, processes: int = 1) -> int:
    """Returns the number of optimizer steps of a stage on a set of `examples`, at least one."""
    per_epoch = examples // min(stage.batch_size, examples)
    return stage.steps or max(1, stage.epochs * per_epoch // (stage.accumulation * processes))


def pools_of(data: Dataset, size: int, labelled_share: float) -> list[tuple[int, Tensor]]:
    """Returns examples that have epochs of their own: all, or those without and those with a label.

    Each entry is their number in a batch of `size`, and their indices (N,).

    Raises:
        DataError: a share is set, but the set has no labels, or no unknown ones, or a batch cannot hold both kinds.
    """
    if not labelled_share:
        return [(size, torch.arange(len(data)))]
    labels = torch.full((len(data),), -1) if data.labels is None else data.labels.cpu()
    known, unknown = (labels >= 0).nonzero().flatten(), (labels < 0).nonzero().flatten()
    rows = min(max(1, round(labelled_share * size)), len(known))
    if not len(known) or not len(unknown) or not 0 < size - rows <= len(unknown):
        raise DataError(
            f"Got labelled_share = {labelled_share:g} of {size} examples a batch, {len(known)} with a label and "
            f"{len(unknown)} without; expected both kinds in each batch. Remove it, or set data.labels."
        )
    return [(size - rows, unknown), (rows, known)]


class BatchStream:
    """Batches of a data set as a function of their number; each epoch has a new order and drops the remainder.

    Args:
        data: the examples; moved to `device` as a whole, or streamed to it batch by batch.
        size: examples in a batch, at most the size of the set.
        device: device of the batches.
        seed: of the recipe.
        context: width of the context of each example, 0 for none.
        labelled_share: share of labeled examples in each batch; 0 ignores labels. Examples with and without a label
            are shuffled separately; the number of batches in an epoch stays the same.

    Attributes:
        stride: number of processes that share the batches; this one takes every `stride`th.
    """

    stride = 1

    def __init__(
        self, data: Dataset, size: int, device: torch.device, *, seed: int, context: int, labelled_share: float = 0.0
    ) -> None:
        #: of the images in `batch`, not in `take` and `whole`: flips, and largest shift in pixels
        self.flip, self.shift = False, 0
        self.data = data.to(device)
        self.size = min(size, len(data))
        self._pools = pools_of(data, self.size, labelled_share)
        self.per_epoch = len(data) // self.size
        self.seed, self.device = seed, device
        self.dynamic = data.binarization == "dynamic"
        self._context, self._labels = (data.context, data.labels) if context else (None, None)
        if self._context is not None:
            self._context = self._context.to(device, torch.float32)
        elif self._labels is not None:
            self._labels = self._labels.to(device)
            self._columns = torch.arange(context, device=device)
        # The order is on the device of the images; worker processes that read images need it on the CPU.
        self._home = torch.device("cpu") if isinstance(data, StreamedDataset) else device
        self._orders: list[dict[int, Tensor]] = [{} for _ in self._pools]
        self._ahead: Generator[Tensor, None, None] | None = None
        self._next = 0

    def indices(self, number: int) -> Tensor:
        """Returns the indices of the examples in batch `number`, (B,)."""
        return self._places(number).to(self.device)

    def batch(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Returns `take(indices(number))`, augmented; with streamed images the next batches are prefetched.

        Raises:
            DataError: an image cannot be read.
        """
        if self._ahead is None or number != self._next:
            self.close()
            self._ahead = self.data.batches(self._places(each) for each in count(number, self.stride))
        self._next = -1  # a batch that fails is read again
        x = next(self._ahead)
        self._next = number + self.stride
        has_context = self._context is not None or self._labels is not None
        x = self._binarized(self._augmented(x, number))
        return x, self.context_of(self.indices(number)) if has_context else None

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns x (B, *shape), binarized where that is dynamic, and the context (B, C) or None of examples."""
        return self._binarized(self.data.batch(indices)), self.context_of(indices)

    def whole(self, rows: int, first: int = 0, every: int = 1) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yields `take` of all examples in the order of the set, `rows` at a time; streamed images are prefetched.

        Of these batches it yields number `first` and then every `every`th.
        """
        parts = torch.arange(len(self.data), device=self._home).split(rows)[first::every]
        for indices, x in zip(parts, self.data.batches(parts), strict=True):
            yield self._binarized(x), self.context_of(indices.to(self.device))

    def close(self) -> None:
        """Ends the worker processes, if there are any."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def context_of(self, indices: Tensor) -> Tensor | None:
        """Returns the context (B, C) of examples; None without a context."""
        if self._context is not None:
            return self._context[indices]
        return None if self._labels is None else self._one_hot(self._labels[indices])

    def _one_hot(self, labels: Tensor) -> Tensor:
        """Returns labels (B,) as vectors (B, C); -1, an unknown label, becomes zeros."""
        return (labels[:, None] == self._columns).to(torch.float32)

    def _augmented(self, x: Tensor, number: int) -> Tensor:
        if not self.flip and not self.shift:
            return x
        generator = torch.Generator().manual_seed(noise_seed(self.seed, AUGMENTATION, number))
        return augment(x, flip=self.flip, shift=self.shift, generator=generator)

    def _binarized(self, x: Tensor) -> Tensor:
        return sample_binary(x) if self.dynamic else x

    def _places(self, number: int) -> Tensor:
        """Returns the indices of the examples in batch `number` where the images are read."""
        found = []
        for (rows, places), orders, use in zip(self._pools, self._orders, (ORDER, LABELLED_ORDER), strict=False):
            epoch, position = divmod(number, len(places) // rows)
            if epoch not in orders:
                for old in list(orders)[:-1]:  # two are kept: prefetching reaches the next epoch before this one ends
                    del orders[old]
                generator = torch.Generator().manual_seed(noise_seed(self.seed, use, epoch))
                orders[epoch] = places[torch.randperm(len(places), generator=generator)].to(self._home)
            found.append(orders[epoch][position * rows : (position + 1) * rows])
        return torch.cat(found) if len(found) > 1 else found[0]


class EndlessStream(BatchStream):
    """Batches of an iterable data set in its own order: number n has the examples from n × size to (n + 1) × size - 1.

    Arguments as in `BatchStream`. The iterable is read on; to go back, or to resume, it is begun anew and the examples
    before the batch are read and discarded.
    """

    data: EndlessDataset

    def __init__(
        self, data: Dataset, size: int, device: torch.device, *, seed: int, context: int, labelled_share: float = 0.0
    ) -> None:
        if labelled_share or data.binarization == "static":
            raise DataError(
                f"{data.name}: got an iterable data set without a length; data.labelled_share and static binarization "
                'need one. Leave them out (binarize = "dynamic"), or pass a map-style data set.'
            )
        super().__init__(data, size, device, seed=seed, context=context)
        self.per_epoch = max(1, self.data.total // self.size)
        self._examples: Iterator[Example] | None = None
        self._read = 0  # examples that were read
        self._classes = context

    def indices(self, number: int) -> Tensor:
        """Returns the places of the examples of batch `number` in the iterable, (B,)."""
        return torch.arange(self.size, device=self.device) + number * self.size

    def batch(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Returns the next examples of the iterable, augmented and binarized, and their context (B, C) or None.

        Raises:
            DataError, ShapeError: an example differs from the first one in shape or type, or its label is too large.
        """
        start = number * self.size
        if self._examples is None or start < self._read:
            self._examples, self._read = self.data.source.after(self.data.skipped), 0
        found = list(islice(self._examples, start - self._read, start - self._read + self.size))
        self._read = start + self.size
        x = self.data.examples([each for each, _ in found]).to(self.device)
        return self._binarized(self._augmented(x, number)), self._context_of([c for _, c in found])

    def close(self) -> None:
        """Ends the reading of the iterable."""
        super().close()
        self._examples = None

    def _context_of(self, found: list[Tensor | str | None]) -> Tensor | None:
        """Returns the conditions of examples as `context_of` does."""
        if self._context is None and self._labels is None:
            return None
        numbers = {name: number for number, name in enumerate(self.data.class_names or ())}
        known = [torch.tensor(numbers.get(c, self._classes)) if isinstance(c, str) else c for c in found]
        c = torch.stack([each for each in known if each is not None]).to(self.device)
        if self._context is not None:
            return c.to(torch.float32)
        if int(c.min()) < -1 or int(c.max()) >= self._classes:
            raise DataError(
                f"{self.data.name}: got a label of a class that is not among the {self._classes} of the first "
                f"{len(self.data):,} examples. Mix the classes, or pass from_tensors(data, classes=…, beginning=…)."
            )
        return self._one_hot(c)
