"""Batches and noise as functions of (seed, step, micro-batch)."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from vaezoo.data import Dataset, draw
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
        data: the examples; moved to `device` as a whole.
        batch_size: examples in a batch; all of them where the set has fewer.
        device: where batches are made.
        seed: of the recipe.
        context: width of the context that is given with each example, 0 for none.
    """

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
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def indices(self, number: int) -> Tensor:
        """Returns which examples are in batch `number`, (B,)."""
        epoch, position = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(noise_seed(self.seed, ORDER, epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.data), generator=generator).to(self.device)
        return self._order[position * self.size : (position + 1) * self.size]

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns x (B, *shape) and the context (B, C) or None of examples; a dynamic binarization is drawn here."""
        x = self.data.batch(indices)
        return draw(x) if self.dynamic else x, self.context_of(indices)

    def context_of(self, indices: Tensor) -> Tensor | None:
        """Returns the context (B, C) of examples, None where none is given."""
        if self._context is not None:
            return self._context[indices]
        return None if self._labels is None else self._one_hot[self._labels[indices]]
