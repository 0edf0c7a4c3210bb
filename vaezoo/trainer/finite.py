"""Detection of non-finite losses and gradients, on a GPU without a synchronization per step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vaezoo.core import ELBO
from vaezoo.trainer.parallel import local


class NonFiniteFlag:
    """A 0-dim tensor that is 0, and 1 from the first step with a non-finite loss or gradient.

    While it is 1, fused optimizers skip their updates (`found_inf`, as in gradient scaling) and `protect` restores
    tensors that are learned without gradients. It can therefore be read many steps later: the weights are still those
    before the first bad step.
    """

    def __init__(self, device: torch.device, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        self.value = torch.zeros((), device=device)
        self._skipped = torch.zeros((), device=device)
        for optimizer in optimizers:
            optimizer.found_inf = self.value  # type: ignore[attr-defined]  # read by fused optimizers

    def update(self, figure: Tensor) -> None:
        """Sets the flag where `figure`, 0-dim, is not finite; once per step."""
        self.value.copy_(torch.maximum(self.value, (~figure.isfinite()).to(self.value.dtype)))
        self._skipped += self.value

    @contextmanager
    def protect(self, tensors: Iterable[Tensor]) -> Iterator[None]:
        """Undoes the changes that the block makes to `tensors` where the flag is set."""
        kept = [(tensor, tensor.clone()) for tensor in tensors]
        yield
        for tensor, old in kept:
            tensor.copy_(torch.where(self.value > 0, old, tensor))

    def is_set(self) -> bool:
        """Returns whether the flag is set; waits for the device."""
        return bool(self.value.item())

    def skipped(self) -> int:
        """Returns the number of steps since the flag was set; waits for the device."""
        return int(self._skipped.item())


def sum_figures(losses: Iterable[Tensor], parameters: Iterable[nn.Parameter]) -> Tensor:
    """Returns the sum of losses and this process's gradients, 0-dim: non-finite if any is, and cheaper than a norm."""
    sums = [local(each.grad).sum() for each in parameters if each.grad is not None]
    return torch.stack([*(loss.sum() for loss in losses), *sums]).sum()


def bad_term(elbo: ELBO, player: str) -> tuple[str, list[int]]:
    """Returns which term makes a player's mean loss non-finite, and its first five bad rows; none if only the mean."""
    parts = {"distortion": elbo.distortion, "rate": elbo.rate, **elbo.terms, f"loss of {player}": elbo.losses[player]}
    for name, value in parts.items():
        rows = (~value.isfinite()).nonzero().flatten()
        if len(rows):
            return name, rows[:5].tolist()
    return f"mean loss of {player}", []


def bad_gradient(model: nn.Module) -> str:
    """Returns which gradient of a model is not finite."""
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not bool(local(parameter.grad).isfinite().all()):
            return f"gradient of {name}"
    return "sum of all gradients"
