"""A pass forward and backward; on a CPU soon from a flat list of tensor operations.

Autograd makes its graph anew in every pass, through Python: of a small model an eighth of the time. The operations are
the same each time, though, so after some passes they are written down, and from then on called one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from vaezoo.elbo import ELBO
from vaezoo.model import VAE
from vaezoo.recipe import Stage

__all__ = ["Pass", "Passes"]

LOG = logging.getLogger("vaezoo")
AFTER = 20  # passes before they are written down: what happens only at first has happened
WORTH = 1_000  # steps to come that make up for the time it takes
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
ALIASES = (torch.ops.aten.detach.default, torch.ops.aten.alias.default)  # which do nothing where nothing is recorded

Values: TypeAlias = tuple[list[Tensor], list[Tensor | None]]  # what is reported; gradients


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
        self._graph: GraphModule | None = None
        self._trusted = False
        self._made_for: list[object] = []
        self._state: list[tuple[Mapping[str, Tensor | None], str, Tensor | None]] = []
        self._names: tuple[list[str], ...] = ()

    def __call__(self, x: Tensor, c: Tensor | None, step: Tensor) -> Pass:
        """Returns the pass of a batch, with the noise that comes next from torch's generator."""
        inputs = (x, step) if c is None else (x, step, c)
        values = self._repeat(inputs) if self.repeats else None
        return self._sorted(self._take(*inputs) if values is None else values)

    def _take(self, x: Tensor, step: Tensor, c: Tensor | None = None) -> Values:
        """Returns what a pass reports, one after the other as `_sorted` expects it, and the gradients."""
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
        return [value.detach() for value in reported], gradients

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
        distortion, rate, bound, *rest = values[0]
        named = iter(rest)
        losses, terms, seen, means = ({name: next(named) for name in names} for names in self._names)
        elbo = ELBO(distortion=distortion, rate=rate, bound=bound, losses=losses, terms=terms, seen=seen)
        return Pass(elbo, means, values[1])

    # The list of operations

    def _repeat(self, inputs: tuple[Tensor, ...]) -> Values | None:
        """Returns what the operations give that were written down; None where the model itself must take the pass."""
        self._taken += 1
        if self._taken == AFTER:
            self._write_down(inputs)
        if self._taken <= AFTER or self._graph is None or not self._fits(inputs):
            return None
        if not self._trusted:
            return self._compare(inputs)
        with torch.no_grad():
            values: Values = self._graph.forward(*inputs)
        return values

    def _write_down(self, inputs: tuple[Tensor, ...]) -> None:
        """Writes down the operations of a pass, which changes nothing but takes as long as two; some cannot be."""
        from torch.fx.experimental.proxy_tensor import make_fx

        with torch.random.fork_rng(devices=[]):
            try:
                graph = make_fx(lambda *each: self._take(*each))(*inputs)
            except Exception as error:  # whatever a variant does that tensors alone do not tell
                self._give_up(f"{type(error).__name__}: {error}")
                return
        for node in graph.graph.nodes:
            if node.target in ALIASES:
                node.replace_all_uses_with(node.args[0])
        graph.graph.eliminate_dead_code()
        graph.recompile()
        for node in graph.graph.nodes:
            if node.op == "get_attr":  # found at once, without asking nn.Module
                vars(graph)[node.target] = getattr(graph, node.target)
        self._graph, self._made_for = graph, [describe(each) for each in inputs]
        for module in self.model.modules():
            self._state += [(module._parameters, name, tensor) for name, tensor in module._parameters.items()]
            self._state += [(module._buffers, name, tensor) for name, tensor in module._buffers.items()]

    def _compare(self, inputs: tuple[Tensor, ...]) -> Values:
        """Returns the pass as the model itself takes it, and trusts the operations if they give the same."""
        with torch.random.fork_rng(devices=[]):
            expected = self._take(*inputs)
        if self._graph is not None:
            with torch.no_grad():
                values = self._graph.forward(*inputs)
            self._trusted = all(map(is_same, chain(*values), chain(*expected)))
            if not self._trusted:
                self._give_up("its operations gave something else for another batch")
        return expected

    def _give_up(self, why: str) -> None:
        self.repeats, self._graph = False, None
        LOG.info("Steps of this model are taken one by one, not from a list of operations: %s.", why.split("\n")[0])

    def _fits(self, inputs: tuple[Tensor, ...]) -> bool:
        """Says whether inputs, parameters and buffers are such as the operations were written down with."""
        same = all(owner.get(name) is tensor for owner, name, tensor in self._state)
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
