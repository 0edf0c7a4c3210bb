"""One stage: its batches, players, optimizers and averages, and the one step that every variant takes."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from vaezoo.core import ELBO, VAE
from vaezoo.errors import NonFiniteLossError
from vaezoo.recipe import Stage
from vaezoo.storage.checkpoint import Checkpoint
from vaezoo.trainer.averages import EVERY, Averages
from vaezoo.trainer.batches import BatchStream, reseed, stage_steps
from vaezoo.trainer.flag import Flag
from vaezoo.trainer.optimizers import learning_rate, make_optimizer, pack, unpack, update, zero_denormals
from vaezoo.trainer.passes import Passes
from vaezoo.trainer.processes import Processes

__all__ = ["StageRun"]

SWEEP_EVERY = 100  # steps between two sweeps of denormal numbers out of Adam's moments


class StageRun:
    """One stage of a run, step by step.

    Args:
        model: what is trained; its parts are frozen and its objective scheduled as the stage says.
        stage: what to do.
        feed: the batches.
        offset: steps of the stages before, on which the noise depends.
        done: steps of this stage that were done before.
        ranks: the processes of the run.
    """

    def __init__(
        self, model: VAE, stage: Stage, feed: BatchStream, *, offset: int, done: int = 0, ranks: Processes | None = None
    ) -> None:
        self.model, self.stage, self.feed = model, stage, feed
        self.offset, self.done = offset, done
        self.ranks = ranks or Processes()
        self.steps = stage_steps(stage, len(feed.data), self.ranks.size)
        feed.stride = self.ranks.size
        self.players = {name: own for name, own in model.players().items() if own}
        self.parameters = [parameter for own in self.players.values() for parameter in own]
        self.passes = Passes(model, self.players, stage, feed.device, self.steps - done)
        for parameter in model.parameters():
            parameter.grad = None  # left by the caller, or by a step that was cut short
        self.optimizers = {name: make_optimizer(stage, own, feed.device) for name, own in self.players.items()}
        self.averages = Averages(model, stage.average) if stage.average else None
        # On a GPU nothing is read between two lines of metrics: a bad step sets a flag there, from which on no update
        # is made, and `settle` reads it.
        self.flag = Flag(feed.device) if feed.device.type == "cuda" and self.ranks.size == 1 else None
        self.step = torch.tensor(done, device=feed.device)
        self.totals: dict[str, Tensor] = {}
        self.counted = 0

    @property
    def number(self) -> int:
        """How many steps all stages have taken so far."""
        return self.offset + self.done

    @property
    def averaged(self) -> Averages | None:
        """The averaged weights, once there are any."""
        return self.averages if self.done >= EVERY else None

    def advance(self) -> None:
        """Takes one optimizer step.

        Raises:
            NonFiniteLossError: a loss or a gradient is NaN or infinite; no weight was changed by it.
        """
        passes = self._passes()
        for name, optimizer in self.optimizers.items():
            self._check_gradients(name)
            optimizer.param_groups[0]["lr"] = learning_rate(self.stage, name, self.done, self.steps)
            if self.flag is not None:
                optimizer.found_inf = self.flag.raised  # type: ignore[attr-defined]  # which fused ones ask for
        for optimizer in self.optimizers.values():
            update(optimizer)
        for parameter in self.parameters:
            parameter.grad = None
        for elbo in passes:
            self._count(elbo)
        self.done += 1
        seen = [elbo.statistics for elbo in passes]
        with nullcontext() if self.flag is None else self.flag.guarding(self.model, self.averages):
            gathered = self.ranks.gather(seen) if any(seen) else seen * self.ranks.size
            self.model.after_step(gathered, self.step)  # also where all are empty: some parts move with the step alone
            if self.averages is not None:
                self.averages.update(self.done)
        self.step += 1
        if self.done % SWEEP_EVERY == 0:
            zero_denormals(self.optimizers.values())

    def settle(self) -> None:
        """Reads the flag that bad steps set on a GPU, and goes back to before the first of them.

        Raises:
            NonFiniteLossError: it was set; the weights are those of before.
        """
        if self.flag is None or not self.flag.is_raised():
            return
        self.done = self.flag.steps_before(self.done)
        self.step.fill_(self.done)
        self.flag, self.totals, self.counted = None, {}, 0
        self._passes()  # again, now looking at everything
        for name in self.players:
            self._check_gradients(name)
        raise NonFiniteLossError(f"A loss became non-finite at {self._place(self.done)}, but not a second time.")

    def _passes(self) -> list[ELBO]:
        """Takes this process's micro-batches forward and backward, and averages the gradients of all processes."""
        passes: list[ELBO] = []
        failure: NonFiniteLossError | None = None
        try:
            for local in range(self.stage.accumulation):
                passes.append(self._pass(local * self.ranks.size + self.ranks.rank))
        except NonFiniteLossError as error:
            failure = error
        if self.ranks.exchange(self.parameters, failure is not None):
            for parameter in self.parameters:
                parameter.grad = None
            raise failure or NonFiniteLossError(f"Another process failed at step {self.number + 1}; see its message.")
        return passes

    def _pass(self, micro: int) -> ELBO:
        """Takes one micro-batch forward and backward."""
        batch = self.done * self.stage.accumulation * self.ranks.size + micro
        reseed(self.feed.device, self.feed.seed, self.number, micro)
        x, c = self.feed.batch(batch)
        taken = self.passes(x, c, self.step)
        for name, loss in taken.losses.items():
            if self.flag is not None:
                self.flag.watch(loss)
            elif not math.isfinite(loss.item()):
                self._non_finite(taken.elbo, name, batch)
        for parameter, gradient in zip(self.parameters, taken.gradients, strict=True):
            if parameter.grad is None or gradient is None:
                parameter.grad = parameter.grad if gradient is None else gradient
            else:
                parameter.grad.add_(gradient)
            for hook in (parameter._post_accumulate_grad_hooks or {}).values() if gradient is not None else ():
                hook(parameter)
        return taken.elbo

    def _check_gradients(self, player: str) -> None:
        """Clips a player's gradients where the stage says so, and makes sure that all are finite."""
        gradients = [parameter.grad for parameter in self.players[player] if parameter.grad is not None]
        # A sum shows NaN and infinity as a norm does, for less.
        total = torch.stack([gradient.sum() for gradient in gradients]).sum() if gradients else torch.zeros(())
        if self.flag is not None:
            self.flag.watch(total)
        elif not math.isfinite(total.item()):
            names = {id(parameter): name for name, parameter in self.model.named_parameters()}
            bad = [p for p in self.players[player] if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
            what = f"gradient of {names[id(bad[0])]}" if bad else f"norm of the gradients of {player}"
            raise NonFiniteLossError(f"The {what} became non-finite at {self._place(self.done)}.")
        if self.stage.clip:
            norm = nn.utils.get_total_norm(gradients)
            nn.utils.clip_grads_with_norm_(self.players[player], self.stage.clip, norm)

    def _count(self, elbo: ELBO) -> None:
        """Adds a pass to the running totals, per example and without leaving the device."""
        named = {"distortion": elbo.distortion, "rate": elbo.rate, "bound": elbo.bound, **elbo.terms}
        if len(elbo.losses) > 1:
            named |= {f"loss_{name}": value for name, value in elbo.losses.items()}
        for name, value in named.items():
            if name in self.totals:
                self.totals[name] += value.detach()
            else:
                self.totals[name] = value.detach().clone()
        self.counted += 1

    def take_means(self) -> dict[str, float]:
        """Returns the means of what was counted since the last call, nats per example."""
        means = {name: (total / self.counted).mean() for name, total in self.totals.items()}
        self.ranks.average(list(means.values()))
        self.totals, self.counted = {}, 0
        return {name: mean.item() for name, mean in means.items()}

    def _non_finite(self, elbo: ELBO, player: str, batch: int) -> None:
        parts = {"distortion": elbo.distortion, "rate": elbo.rate, **elbo.terms}
        parts[f"loss of {player}"] = elbo.losses[player]
        bad = {name: (~torch.isfinite(value)).nonzero().flatten() for name, value in parts.items()}
        term = next((name for name, rows in bad.items() if len(rows)), f"mean loss of {player}")
        images = ""
        if term in bad:
            images = f", training images {self.feed.indices(batch)[bad[term][:5]].tolist()}"
        raise NonFiniteLossError(f"The {term} became non-finite at {self._place(batch)}{images}.")

    def _place(self, batch: int) -> str:
        epoch, position = divmod(batch, self.feed.per_epoch)
        return f"step {self.number + 1}, batch {position + 1} of {self.feed.per_epoch} in epoch {epoch + 1}"

    # What a checkpoint keeps of a stage

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Returns model, averages, optimizers and running totals as named groups of tensors; all processes call it."""
        return {
            "model": self.model.state_dict(),
            "averages": dict(self.averages.values) if self.averages is not None else {},
            "optimizers": pack(self.optimizers),
            "totals": self._totals_of_all(),
        }

    def _totals_of_all(self) -> dict[str, Tensor]:
        """Returns the running totals; of several processes one row each, in their order."""
        rows = self.ranks.gather([self.totals])
        if len(rows) == 1:
            return self.totals
        return {name: torch.stack([row[name] for row in rows]) for name in self.totals}

    def state(self) -> dict[str, object]:
        """Returns what a checkpoint keeps of a stage besides its tensors."""
        return {"done": self.done, "counted": self.counted, "totals": list(self.totals)}

    def load(self, saved: Checkpoint) -> None:
        """Puts the tensors of a checkpoint where they were."""
        self.model.load_state_dict(dict(saved.tensors["model"]))
        if self.averages is not None:
            for name, value in saved.tensors["averages"].items():
                self.averages.values[name].copy_(value)
        unpack(self.optimizers, saved.tensors.get("optimizers", {}))
        # By name in the order in which they are reported; a file of tensors has an order of its own.
        totals, order = saved.tensors.get("totals", {}), cast("list[str]", saved.state["totals"])
        self.totals = {name: totals[name].to(self.feed.device) for name in order}
        if (then := cast(int, saved.state.get("processes", 1))) > 1:
            same = then == self.ranks.size
            self.totals = {name: rows[self.ranks.rank] if same else rows.mean(0) for name, rows in self.totals.items()}
        self.counted = int(cast(int, saved.state["counted"]))
