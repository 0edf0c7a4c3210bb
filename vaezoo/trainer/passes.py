"""A pass forward and backward; on a CPU soon from a flat list of tensor operations.

Autograd makes its graph anew in every pass, through Python: of a small model an eighth of the time. The operations are
the same each time, though, so after some passes they are recorded, and from then on called one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from vaezoo.elbo import ELBO
from vaezoo.model import VAE
from vaezoo.recipe import Stage
from vaezoo.trainer.recording import record

__all__ = ["Pass", "Passes"]

LOG = logging.getLogger("vaezoo")
AFTER = 10  # passes before one is recorded: what happens only at first has happened
WORTH = 200  # steps to come that make up for the time it takes
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

Values = Sequence[Tensor | None]


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass gives, all of it detached.

    `elbo`; `losses`: player -> the mean loss, 0-dim; `gradients`: one for each of the players' parameters, in their
    order, None where the loss does not depend on it.
    """

    elbo: ELBO
    losses: dict[str, Tensor]
    gradients: Sequence[Tensor | None]


class Passes:
    """Takes passes through a model.

    A list of operations is used only if it gives the same bits as the model itself for a batch that it was not made
    from, and never where hooks or autograd's checks want to see each pass. It reads parameters and buffers where they
    are; a part has no other state that changes.

    Args:
        model: what is trained.
        players: who minimises which loss with which parameters.
        stage: the precision, and into how many micro-batches a step is split.
        device: where the model is.
        steps: how many steps are still to come.
    """

    def __init__(
        self, model: VAE, players: Mapping[str, Sequence[nn.Parameter]], stage: Stage, device: torch.device, steps: int
    ) -> None:
        self.model, self.players, self.stage, self.device = model, players, stage, device
        self.repeats = device.type == "cpu" and not stage.compile and steps >= WORTH and not is_watched(model)
        self._taken = 0
        self._again: Callable[..., Values] | None = None
        self._trusted = False
        self._made_for: list[object] = []
        self._state: list[tuple[Mapping[str, Tensor | None], str, Tensor | None, int]] = []
        self._names: tuple[list[str], ...] = ()

    def __call__(self, x: Tensor, c: Tensor | None, step: Tensor) -> Pass:
        """Returns the pass of a batch, with the noise that comes next from torch's generator."""
        inputs = (x, step) if c is None else (x, step, c)
        values = self._repeat(inputs) if self.repeats else None
        return self._sorted(self._take(*inputs) if values is None else values)

    def _take(self, x: Tensor, step: Tensor, c: Tensor | None = None) -> Values:
        """Returns what a pass reports, one after the other as `_sorted` expects it, then the gradients."""
        bf16 = self.stage.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext():
            elbo: ELBO = self.model.objective(self.model, x, c, step)
        losses = {name: elbo.losses[name].mean() for name in self.players if name in elbo.losses}
        gradients: list[Tensor | None] = []
        for name, own in self.players.items():
            if name in losses:
                gradients += self._gradients(losses[name], own, retain_graph=name != list(losses)[-1])
            else:
                gradients += [None] * len(own)
        groups = (elbo.losses, elbo.terms, elbo.seen, losses)
        self._names = tuple(list(group) for group in groups)
        reported = [elbo.distortion, elbo.rate, elbo.bound, *(value for group in groups for value in group.values())]
        return [*(value.detach() for value in reported), *gradients]

    def _gradients(self, loss: Tensor, own: Sequence[nn.Parameter], *, retain_graph: bool) -> list[Tensor | None]:
        """Returns the gradients of a loss, each in memory of its own, laid out like the parameter."""
        if self.stage.accumulation > 1:
            loss = loss / self.stage.accumulation
        found: list[Tensor | None] = list(torch.autograd.grad(loss, own, retain_graph=retain_graph, allow_unused=True))
        memory: set[int] = set()
        for place, (parameter, gradient) in enumerate(zip(own, found, strict=True)):
            if gradient is None:
                continue
            if gradient.stride() != parameter.stride() or gradient.untyped_storage().data_ptr() in memory:
                found[place] = torch.empty_like(parameter, requires_grad=False).copy_(gradient)
            memory.add(gradient.untyped_storage().data_ptr())
        return found

    def _sorted(self, values: Values) -> Pass:
        """Returns the pass whose parts `_take` gave."""
        rest = iter(values)
        # Only a gradient may be None.
        distortion, rate, bound = (cast(Tensor, next(rest)) for _ in range(3))
        losses, terms, seen, means = ({name: cast(Tensor, next(rest)) for name in names} for names in self._names)
        elbo = ELBO(distortion=distortion, rate=rate, bound=bound, losses=losses, terms=terms, seen=seen)
        return Pass(elbo, means, list(rest))

    # The list of operations

    def _repeat(self, inputs: tuple[Tensor, ...]) -> Values | None:
        """Returns what the recorded operations give; None where the model itself must take the pass."""
        self._taken += 1
        if self._taken == AFTER:
            self._record(inputs)
        if self._taken <= AFTER or self._again is None or not self._fits(inputs):
            return None
        return self._again(*inputs) if self._trusted else self._compare(inputs, self._again)

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """Records a pass, which changes nothing but takes as long as several."""
        with torch.random.fork_rng(devices=[]):
            try:
                self._again = record(self._take, inputs)
            except Exception as error:  # whatever a variant does that tensors alone do not tell
                self._give_up(str(error))
        self._made_for = [describe(each) for each in inputs]
        for module in self.model.modules():
            for owner in (module._parameters, module._buffers):
                self._state += [
                    (owner, name, each, 0 if each is None else each.data_ptr()) for name, each in owner.items()
                ]

    def _compare(self, inputs: tuple[Tensor, ...], again: Callable[..., Values]) -> Values:
        """Returns the pass as the model itself takes it, and trusts the operations if they give the same."""
        with torch.random.fork_rng(devices=[]):
            expected = self._take(*inputs)
        try:
            self._trusted = all(map(is_same, again(*inputs), expected))
            why = "operations that gave this for one batch gave something else for the next"
        except Exception as error:  # where shapes depend on values
            why = str(error)
        if not self._trusted:
            self._give_up(why)
        return expected

    def _give_up(self, why: str) -> None:
        self.repeats, self._again = False, None
        LOG.info("Every step of this model is taken through autograd, since %s.", why.split("\n")[0])

    def _fits(self, inputs: tuple[Tensor, ...]) -> bool:
        """Says whether inputs, parameters and buffers are such as the operations were recorded with."""
        same = all(
            owner.get(name) is tensor and (tensor is None or tensor.data_ptr() == address)
            for owner, name, tensor, address in self._state
        )
        return same and self._made_for == [describe(each) for each in inputs]


def is_watched(model: nn.Module) -> bool:
    """Says whether hooks, or autograd's search for anomalies, want to see each pass."""
    hooked = any(getattr(module, name, None) for module in model.modules() for name in HOOKS)
    return hooked or torch.is_anomaly_enabled() or any(each._backward_hooks for each in model.parameters())


def describe(tensor: Tensor) -> tuple[object, ...]:
    """Returns what operations depend on besides the values of a tensor."""
    return tensor.shape, tensor.stride(), tensor.dtype


def is_same(one: Tensor | None, other: Tensor | None) -> bool:
    """Says whether two tensors have the same type and bits (NaN is like nothing), or both are None."""
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and torch.equal(one, other)
