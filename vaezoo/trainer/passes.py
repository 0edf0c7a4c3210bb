"""A pass forward and backward, soon from a flat list of tensor operations.

Autograd makes its graph anew in every pass, through Python: of a small model an eighth of the time. The operations are
the same each time, though, so after some passes they are recorded, and from then on called one after the other; on a
GPU, whose small operations take longer to launch than to do, all of them are launched at once, as a CUDA graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn

from vaezoo.core import ELBO, VAE
from vaezoo.errors import warn
from vaezoo.recipe import Stage
from vaezoo.trainer.capture import capture
from vaezoo.trainer.recording import record

__all__ = ["Pass", "Passes"]

LOG = logging.getLogger("vaezoo")
AFTER = 10  # passes before one is recorded: what happens only at first has happened
AGAIN = 64  # passes, and twice, four times … as many, after which the operations are compared with the model anew
WORTH = 200  # steps to come that make up for the time it takes
MOST = {"cpu": 256 << 20, "cuda": 2 << 30}  # bytes of tensors that one may make; of more, Python is no large part
GRAPHS = frozenset({"cuda"})  # devices on which all operations are launched as one
ROUNDING = 1e-3  # of the largest value: what two ways to add the same numbers on a GPU may differ by
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
INTERNAL = frozenset(vars(nn.Module()))  # what every module has besides its own attributes

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

    A list of operations is used only if it gives the same values as the model itself (on a GPU up to rounding) for a
    batch of another step than the one that it was made from, and that is looked at again now and then. It is not used
    where hooks or autograd's checks want to see each pass, where a pass changes a buffer or looks at values, nor once
    an attribute, a parameter or a buffer of a module has become another object.

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
        self.repeats = device.type in MOST and not stage.compile and steps >= WORTH
        self._taken = 0
        self._again: Callable[..., Values] | None = None
        self._trusted = False
        self._recorded_at = -1
        self._made_for: list[object] = []
        self._state: list[tuple[MutableMapping[str, object], str, object]] = []
        self._tensors: list[tuple[Tensor, int, tuple[object, ...]]] = []
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
        groups = (elbo.losses, elbo.terms, elbo.statistics, losses)
        self._names = tuple(list(group) for group in groups)
        reported = [elbo.distortion, elbo.rate, elbo.bound, *(value for group in groups for value in group.values())]
        return [*(value.detach() for value in reported), *gradients]

    def _gradients(self, loss: Tensor, own: Sequence[nn.Parameter], *, retain_graph: bool) -> list[Tensor | None]:
        """Returns the gradients of a loss, each in memory of its own, laid out like the parameter."""
        if self.stage.accumulation > 1:
            loss = loss / self.stage.accumulation
        found: list[Tensor | None] = list(torch.autograd.grad(loss, own, retain_graph=retain_graph, allow_unused=True))
        # A gradient may also be, in part, what a part keeps.
        memory = {each.untyped_storage().data_ptr() for each in chain(self.model.parameters(), self.model.buffers())}
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
        elbo = ELBO(distortion=distortion, rate=rate, bound=bound, losses=losses, terms=terms, statistics=seen)
        return Pass(elbo, means, list(rest))

    # The list of operations

    def _repeat(self, inputs: tuple[Tensor, ...]) -> Values | None:
        """Returns what the recorded operations give; None where the model itself must take the pass."""
        self._taken += 1
        if self._taken == AFTER:
            self._record(inputs)
        if self._taken <= AFTER or self._again is None or not self._fits(inputs):
            return None
        if not self._trusted:
            return None if int(inputs[1]) == self._recorded_at else self._compare(inputs, self._again)
        if self._taken % AGAIN == 0 and (self._taken // AGAIN).bit_count() == 1:
            return self._compare(inputs, self._again)
        return self._again(*inputs)

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """Records a pass, which changes nothing but takes as long as several."""
        if is_watched(self.model):
            return self._give_up("hooks want to see it")
        tensors = [*self.model.parameters(), *self.model.buffers()]
        before = [(each.detach().clone(), each._version) for each in tensors]
        self._state, reasons = attributes(self.model), list[str]()
        with self._aside():
            try:
                self._again = self._made(tuple(each.clone() for each in inputs))
            except Exception as error:  # whatever a variant does that tensors alone do not tell
                reasons.append(str(error))
        if any(each._version != version for each, (_, version) in zip(tensors, before, strict=True)):
            with torch.no_grad():
                for each, (kept, _) in zip(tensors, before, strict=True):
                    each.copy_(kept)
            reasons.append("it changes a buffer")
        for owner, key, value in self._state:
            if owner.get(key) is not value:
                owner[key] = value
                reasons.append(f"it changes the attribute {key}")
        if reasons:
            return self._give_up(reasons[0])
        self._recorded_at = int(inputs[1])
        self._made_for = [self._names, *(describe(each) for each in inputs)]
        self._tensors = [(each, each.data_ptr(), describe(each)) for each in tensors]
        return None

    def _made(self, inputs: tuple[Tensor, ...]) -> Callable[..., Values]:
        """Returns the operations of a pass with these inputs, on a GPU as one."""
        again = record(self._take, inputs, MOST[self.device.type])
        if self.device.type not in GRAPHS:
            return again
        # The micro-batches of a step are looked at together.
        return capture(again, inputs, fresh=self.stage.accumulation > 1)

    def _aside(self) -> AbstractContextManager[None]:
        """Returns a context after which random states are as before."""
        return torch.random.fork_rng(devices=[] if self.device.type == "cpu" else [self.device])

    def _compare(self, inputs: tuple[Tensor, ...], again: Callable[..., Values]) -> Values:
        """Returns the pass as the model itself takes it, and trusts the operations if they give the same."""
        with self._aside():
            expected = self._take(*(each.clone() for each in inputs))
        try:
            found = again(*inputs)
            same = self._names == self._made_for[0] and len(found) == len(expected)
            why = "operations that gave the same for one batch gave something else for another"
        except Exception as error:  # where shapes depend on values
            found, same, why = [], False, str(error)
        if not (same and all(map(is_same, found, expected))):
            if self._trusted:
                warn(
                    f"{why.capitalize()} at pass {self._taken} of a stage, after they had been used for some time: a "
                    "part depends on what is no parameter, buffer or attribute of a module. Keep it in one."
                )
            self._give_up(why)
        self._trusted = True
        return expected

    def _give_up(self, why: str) -> None:
        self.repeats, self._again = False, None
        LOG.info("Every step of this model is taken through autograd, since %s.", why.split("\n")[0])

    def _fits(self, inputs: tuple[Tensor, ...]) -> bool:
        """Says whether inputs and model are such as the operations were recorded with."""
        return (
            all(owner.get(key) is value for owner, key, value in self._state)
            and all(each.data_ptr() == address and describe(each) == like for each, address, like in self._tensors)
            and self._made_for[1:] == [describe(each) for each in inputs]
        )


def attributes(model: nn.Module) -> list[tuple[MutableMapping[str, object], str, object]]:
    """Returns every attribute, parameter, buffer and child of every module, and where it stands."""
    found: list[tuple[MutableMapping[str, object], str, object]] = []
    for module in model.modules():
        own = {key: value for key, value in vars(module).items() if key not in INTERNAL}
        found += [(vars(module), key, value) for key, value in own.items()]
        for place in (module._parameters, module._buffers, module._modules):
            found += [(cast("dict[str, object]", place), key, value) for key, value in place.items()]
    return found


def is_watched(model: nn.Module) -> bool:
    """Says whether hooks, or autograd's search for anomalies, want to see each pass."""
    everywhere = getattr(nn.modules.module, "_has_any_global_hook", bool)()
    hooked = any(getattr(module, name, None) for module in model.modules() for name in HOOKS)
    hooked = hooked or any(parameter._backward_hooks for parameter in model.parameters())
    return bool(everywhere or hooked or torch.is_anomaly_enabled())


def describe(tensor: Tensor) -> tuple[object, ...]:
    """Returns what operations depend on besides the values of a tensor."""
    return tensor.shape, tensor.stride(), tensor.dtype


def is_same(one: Tensor | None, other: Tensor | None) -> bool:
    """Says whether two tensors have the same type and values (NaN is like nothing), or both are None.

    On a GPU the order of a sum may change from call to call: there values are the same up to rounding.
    """
    if one is None or other is None:
        return one is other
    if one.dtype != other.dtype or one.shape != other.shape or one.device.type == "cpu":
        return one.dtype == other.dtype and torch.equal(one, other)
    largest = float(other.nan_to_num(0.0, 0.0, 0.0).abs().max()) if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=ROUNDING * largest)
