"""One stage: batches, players, optimizers and averages, and the training step, the same for every variant."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn

from vaezoo.core import ELBO, VAE, Seeded
from vaezoo.errors import NonFiniteLossError
from vaezoo.recipe import Stage
from vaezoo.storage.checkpoint import Checkpoint
from vaezoo.trainer.batches import BatchStream, noise_seed, stage_steps
from vaezoo.trainer.compilation import loss_function
from vaezoo.trainer.finite import NonFiniteFlag, bad_gradient, bad_term, sum_figures
from vaezoo.trainer.optimizers import EVERY, Averages, learning_rate, make_optimizer, pack, unpack, zero_denormals
from vaezoo.trainer.parallel import as_sharded, engine_of
from vaezoo.trainer.processes import Processes

SWEEP_EVERY = 100  # steps between two calls of `zero_denormals`


class StageRun:
    """One stage of a run, step by step.

    Args:
        model: the model; its parts are frozen and its objective is scheduled as the stage states.
        stage: the settings of the stage.
        feed: the batches.
        offset: number of steps of the earlier stages, on which the noise depends.
        done: number of steps of this stage that were taken before.
        ranks: the processes of the run.

    Attributes:
        engine: computes the gradients, see `vaezoo.trainer.parallel`.
        model: the model that is trained; with sharded parameters a copy, whose weights `engine.finish` returns.
    """

    def __init__(
        self, model: VAE, stage: Stage, feed: BatchStream, *, offset: int, done: int = 0, ranks: Processes | None = None
    ) -> None:
        self.stage, self.feed = stage, feed
        self.offset, self.done = offset, done
        self.ranks = ranks or Processes()
        self.steps = stage_steps(stage, len(feed.data), self.ranks.size)
        feed.stride = self.ranks.size
        for parameter in model.parameters():
            parameter.grad = None  # set by the caller, or by a step that was interrupted
        self.engine = engine_of(model, stage, feed.device, self.ranks)
        self.model, self.players = self.engine.model, self.engine.players
        self.parameters = [parameter for own in self.players.values() for parameter in own]
        self.optimizers = {name: make_optimizer(stage, own, feed.device) for name, own in self.players.items()}
        self.averages = Averages(self.model, stage.average) if stage.average else None
        self.noise = Seeded(0)  # seeded anew for each micro-batch
        self.loss = loss_function(self.model, stage, feed.device, self.noise)
        self.flag: NonFiniteFlag | None = None
        if feed.device.type == "cuda" and self.ranks.size == 1:
            self.defer_checks()
        self.step = torch.tensor(done, device=feed.device)
        self.totals: dict[str, Tensor] = {}
        self.counted = 0
        #: mean distortion and rate of the first micro-batch, before any update; none in a resumed stage
        self.start: dict[str, Tensor] = {}

    @property
    def number(self) -> int:
        """The number of steps of all stages so far."""
        return self.offset + self.done

    @property
    def averaged(self) -> Averages | None:
        """The averaged weights, once there are any."""
        return self.averages if self.done >= EVERY else None

    def defer_checks(self) -> None:
        """Leaves the check for non-finite values to `settle`, so that no step waits for the device."""
        self.flag = NonFiniteFlag(self.feed.device, self.optimizers.values())

    def advance(self) -> None:
        """Takes one optimizer step.

        Raises:
            NonFiniteLossError: a loss or a gradient is NaN or infinite; no weight was changed by it.
        """
        passes = self._passes()
        for name, optimizer in self.optimizers.items():
            if self.stage.clip:
                nn.utils.clip_grad_norm_(self.players[name], self.stage.clip)
            optimizer.param_groups[0]["lr"] = learning_rate(self.stage, name, self.done, self.steps)
        for optimizer in self.optimizers.values():
            optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        for elbo in passes:
            self._count(elbo)
        self.done += 1
        with nullcontext() if self.flag is None else self.flag.protect(self._learned()):
            if self.model.updates_statistics:
                statistics = [elbo.statistics for elbo in passes]
                gathered = self.ranks.gather(statistics) if any(statistics) else statistics * self.ranks.size
                with self.noise:
                    self.model.after_step(gathered, self.step)  # without statistics too: some depend on the step alone
            if self.averages is not None:
                self.averages.update(self.done)
        self.step += 1
        if self.done % SWEEP_EVERY == 0:
            zero_denormals(self.optimizers.values())

    def _learned(self) -> list[Tensor]:
        """Returns the tensors of a stage that are learned without gradients."""
        return [*self.model.buffers(), *(self.averages.values.values() if self.averages else ())]

    def settle(self) -> None:
        """Reads the deferred check, and returns to the state before the first bad step.

        Raises:
            NonFiniteLossError: a loss or a gradient was NaN or infinite; the weights are those of before.
        """
        if self.flag is None or not self.flag.is_set():
            return
        self.done -= self.flag.skipped()
        self.step.fill_(self.done)
        self.flag, self.totals, self.counted = None, {}, 0
        self._passes()  # repeats the bad step, which now raises the error with its place
        raise NonFiniteLossError(f"A loss became non-finite at {self._place(0)}, but not when the step was repeated.")

    def _passes(self) -> list[ELBO]:
        """Runs this process's micro-batches forward and backward; gradients are then means over all processes."""
        passes = [self._pass(local) for local in range(self.stage.accumulation)]
        losses = [elbo.losses[name] for elbo in passes for name in self.players if name in elbo.losses]
        figure = sum_figures(losses, self.parameters)
        if self.flag is not None:
            self.flag.update(figure)
            return passes
        bad = not math.isfinite(figure.item())
        own_loss = bad and not all(bool(loss.mean().isfinite()) for loss in losses)
        # A bad loss of one process makes the gradients of all bad; the process whose loss it is names the images.
        bad_loss, bad_gradient = self.ranks.share([own_loss, bad], self.feed.device)
        if bad_loss or bad_gradient:
            failure = self._failure(passes) if own_loss or (bad and not bad_loss) else None
            for parameter in self.parameters:
                parameter.grad = None
            raise failure or NonFiniteLossError(f"Another process failed at step {self.number + 1}; see its message.")
        return passes

    def _pass(self, local: int) -> ELBO:
        """Runs one micro-batch forward and backward; returns its ELBO, detached."""
        self.noise.reseed(noise_seed(self.feed.seed, self.number, self._micro(local)))
        with self.noise:
            x, c = self.feed.batch(self._batch(local))
        bf16 = self.stage.precision == "bf16"
        with torch.autocast(self.feed.device.type, torch.bfloat16) if bf16 else nullcontext():
            elbo = self.engine.run(lambda: self.loss(x, c, self.step))
        playing = [name for name in self.players if name in elbo.losses]
        for name in playing:
            loss = elbo.losses[name].mean()
            loss = loss / self.stage.accumulation if self.stage.accumulation > 1 else loss
            self.engine.backward(name, loss, keep=name != playing[-1], last=local == self.stage.accumulation - 1)
        if self.stage.compile == "reduce-overhead" and self.stage.accumulation > 1:
            # The CUDA graph of the next micro-batch writes to the same memory.
            for parameter in self.parameters:
                parameter.grad = None if parameter.grad is None else parameter.grad.clone()
            return detached(elbo, clone=True)
        return detached(elbo)

    def _micro(self, local: int) -> int:
        """Returns the number of a micro-batch of this process among those of all processes in a step."""
        return local * self.ranks.size + self.ranks.rank

    def _batch(self, local: int) -> int:
        """Returns the number of the batch that is micro-batch `local` of the current step."""
        return self.done * self.stage.accumulation * self.ranks.size + self._micro(local)

    def _count(self, elbo: ELBO) -> None:
        """Adds a pass to the running totals, per example and without leaving the device."""
        if not self.done and not self.counted:
            self.start = {"distortion": elbo.distortion.mean(), "rate": elbo.rate.mean()}
        named = {"distortion": elbo.distortion, "rate": elbo.rate, "bound": elbo.bound, **elbo.terms}
        if len(elbo.losses) > 1:
            named |= {f"loss_{name}": value for name, value in elbo.losses.items()}
        for name, value in named.items():
            if name in self.totals:
                self.totals[name] += value
            else:
                self.totals[name] = value.clone()
        self.counted += 1

    def take_means(self) -> dict[str, float]:
        """Returns the means of the totals since the last call, nats per example, and resets them."""
        means = {name: (total / self.counted).mean() for name, total in self.totals.items()}
        self.ranks.average(list(means.values()))
        self.totals, self.counted = {}, 0
        return {name: mean.item() for name, mean in means.items()}

    def _failure(self, passes: list[ELBO]) -> NonFiniteLossError:
        """Returns the error of a step whose losses or gradients are not all finite."""
        for local, elbo in enumerate(passes):
            for player in self.players:
                if player in elbo.losses and not bool(elbo.losses[player].mean().isfinite()):
                    term, rows = bad_term(elbo, player)
                    indices = self.feed.indices(self._batch(local)).tolist()
                    images = f", training images {[indices[row] for row in rows]}" if rows else ""
                    return NonFiniteLossError(f"The {term} became non-finite at {self._place(local)}{images}.")
        return NonFiniteLossError(f"The {bad_gradient(self.model)} became non-finite at {self._place(0)}.")

    def _place(self, local: int) -> str:
        epoch, position = divmod(self._batch(local), self.feed.per_epoch)
        return f"step {self.number + 1}, batch {position + 1} of {self.feed.per_epoch} in epoch {epoch + 1}"

    # The part of a checkpoint that belongs to a stage

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """Returns model, averages, optimizers and running totals as named groups of whole tensors.

        All processes call it; with sharded parameters only the first one has the result.
        """
        groups = {
            "model": self.model.state_dict(),
            "averages": {} if self.averages is None else self.averages.values,
            "optimizers": pack(self.optimizers),
        }
        return {name: self.engine.gathered(group) for name, group in groups.items()} | {"totals": self._totals_of_all()}

    def _totals_of_all(self) -> dict[str, Tensor]:
        """Returns the running totals; with several processes one row for each, in order of rank."""
        rows = self.ranks.gather([self.totals])
        if len(rows) == 1:
            return self.totals
        return {name: torch.stack([row[name] for row in rows]) for name in self.totals}

    def state(self) -> dict[str, object]:
        """Returns the state of a stage that is no tensor."""
        averaged = self.averaged is not None  # those of the first steps are the initial weights
        return {"done": self.done, "counted": self.counted, "totals": list(self.totals), "averaged": averaged}

    def load(self, saved: Checkpoint) -> None:
        """Restores the tensors of a checkpoint."""
        self.model.load_state_dict(self.engine.placed(saved.tensors["model"]))
        if self.averages is not None:
            for name, value in saved.tensors["averages"].items():
                own = self.averages.values[name]
                own.copy_(as_sharded(value, own))
        unpack(self.optimizers, saved.tensors.get("optimizers", {}))
        # In the order in which they are reported; a file of tensors has an order of its own.
        totals, order = saved.tensors.get("totals", {}), cast("list[str]", saved.state["totals"])
        self.totals = {name: totals[name].to(self.feed.device) for name in order}
        if (then := cast(int, saved.state.get("processes", 1))) > 1:
            same = then == self.ranks.size
            self.totals = {name: rows[self.ranks.rank] if same else rows.mean(0) for name, rows in self.totals.items()}
        self.counted = int(cast(int, saved.state["counted"]))


def detached(elbo: ELBO, *, clone: bool = False) -> ELBO:
    """Returns an ELBO without its graph, in memory of its own if `clone`."""

    def each(value: Tensor) -> Tensor:
        return value.detach().clone() if clone else value.detach()

    return ELBO(
        distortion=each(elbo.distortion),
        rate=each(elbo.rate),
        bound=each(elbo.bound),
        losses={name: each(value) for name, value in elbo.losses.items()},
        terms={name: each(value) for name, value in elbo.terms.items()},
        statistics={name: each(value) for name, value in elbo.statistics.items()},
    )
