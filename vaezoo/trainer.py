"""The only training loop: any variant, any number of players and stages.

Order of images and noise are functions of (seed, step, micro-batch), so that a run that was stopped goes on as if it had not
been. Metrics stay on the device and are read every `LOG_EVERY` steps.
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from vaezoo import checkpoint
from vaezoo.data import Dataset, draw
from vaezoo.elbo import ELBO, WeightedObjective, center
from vaezoo.errors import CheckpointError, DataError, InterruptedTrainingError, NonFiniteLossError, RecipeError
from vaezoo.model import VAE, seeded
from vaezoo.recipe import Recipe, Stage
from vaezoo.registry import create
from vaezoo.trackers import Tracker, notify

__all__ = ["Run", "Trainer", "build_model", "choose_device"]

LOG_EVERY = 100  # steps between two lines of metrics
AVERAGE_EVERY = 10  # steps between two updates of the averaged weights
SWEEP_EVERY = 100  # steps between two sweeps of denormal numbers out of Adam's moments
VALIDATIONS = 20  # how often a stage looks at the held-out images
CHECKPOINTS = 10  # how many checkpoints a stage writes
START_IMAGES = 2_000  # images that parts may start from
ACTIVE_VARIANCE = 0.01  # of the posterior mean over images, above which a latent is active (Burda et al., 2016)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: the model in eval mode, its metrics line by line, and what was noticed."""

    model: VAE
    recipe: Recipe
    history: list[dict[str, float]]
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)


def choose_device(name: str = "auto") -> torch.device:
    """Returns the device of a name; "auto" takes a GPU when there is one.

    Raises:
        DataError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DataError(f"Got device {name!r}, which cannot be used here: {error}. Use device='auto' or 'cpu'.") from None
    return device


def build_model(recipe: Recipe, data: Dataset) -> VAE:
    """Returns the recipe's untrained model for a data set; the weights depend on the recipe's seed only."""
    table = recipe.architecture
    with seeded(noise_seed(recipe.seed, -1, 0), torch.device("cpu")):
        return create(
            recipe.variant,
            shape=data.shape,
            latent=table.latent,
            context=context_width(recipe, data),
            backbone=table.backbone,
            likelihood=table.likelihood,
            examples=len(data),
            **recipe.options,
        )


def context_width(recipe: Recipe, data: Dataset) -> int:
    """Returns the width of the context that the recipe's data gives, 0 for none."""
    if not recipe.data.context:
        return 0
    if data.context is not None:
        return data.context.shape[1]
    if data.labels is None or not data.classes:
        raise RecipeError(f"data.context = true, but {data.name!r} has no labels. Set it to false, or pass (x, c).")
    return data.classes


def noise_seed(seed: int, step: int, micro: int) -> int:
    """Returns 63 bits that depend on all three."""
    digest = hashlib.blake2b(f"{seed},{step},{micro}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Feed:
    """Batches of a data set, as a function of their number: epoch by epoch, each in a new order, remainders dropped."""

    def __init__(self, data: Dataset, recipe: Recipe, batch_size: int, device: torch.device) -> None:
        self.data = data.to(device)
        self.size = min(batch_size, len(data))
        self.per_epoch = len(data) // self.size
        self.seed, self.device = recipe.seed, device
        self.dynamic = data.binarization == "dynamic"
        self.context = recipe.data.context
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def indices(self, number: int) -> Tensor:
        """Returns which examples are in batch `number`, (B,)."""
        epoch, position = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(noise_seed(self.seed, -2, epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.data), generator=generator).to(self.device)
        return self._order[position * self.size : (position + 1) * self.size]

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns x (B, *shape) and the context (B, C) or None of examples; a dynamic binarization is drawn here."""
        x = self.data.batch(indices)
        x = draw(x) if self.dynamic else x
        if not self.context:
            return x, None
        if self.data.context is not None:
            return x, self.data.context[indices].to(x.dtype)
        labels, classes = cast(Tensor, self.data.labels), cast(int, self.data.classes)
        return x, nn.functional.one_hot(labels[indices], classes).to(x.dtype)


class Averages:
    """Exponentially averaged parameters, updated every `AVERAGE_EVERY` steps; buffers are the model's own."""

    def __init__(self, model: VAE, decay: float) -> None:
        self.parameters = dict(model.named_parameters())
        self.decay = decay**AVERAGE_EVERY
        self.values = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def update(self, step: int) -> None:
        """Moves the averages; early ones forget faster, so that the start does not linger."""
        if step % AVERAGE_EVERY == 0:
            share = max(1.0 - self.decay, 1.0 / (1 + step // AVERAGE_EVERY))
            torch._foreach_lerp_(list(self.values.values()), [p.detach() for p in self.parameters.values()], share)

    def swap(self) -> None:
        """Exchanges the averages and the model's parameters."""
        for name, parameter in self.parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data


class Trainer:
    """Trains one model by one recipe.

    Args:
        recipe: what to do.
        model: what to train, built by `build_model` or started elsewhere; moved to `device`.
        data: the training set, binarized as the recipe says (`vaezoo.data.prepare`).
        folder: where checkpoints and metrics go; None writes nothing.
        device: where to train.
        trackers: what else hears of the metrics.
        fresh: the parts that start from data; None for all.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: VAE,
        data: Dataset,
        *,
        held_out: Dataset | None = None,
        folder: Path | None = None,
        device: torch.device | None = None,
        trackers: Sequence[Tracker] = (),
        fresh: Sequence[str] | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.recipe, self.model, self.data = recipe, model.to(self.device), data
        self.held_out = held_out
        self.folder, self.trackers, self.fresh = folder, list(trackers), fresh
        self.history: list[dict[str, float]] = []
        self.notes: list[str] = []
        self.best: tuple[float, dict[str, Tensor]] | None = None
        self.stage_number = self.done = 0
        self._stop: signal.Signals | None = None
        for stage in recipe.stages:
            self._check_schedule(stage)

    def fit(self, resume: bool = False) -> Run:
        """Runs every stage that is not done yet, and returns the model with its best or, without validation, last weights.

        Raises:
            NonFiniteLossError: a loss became NaN or infinite; the last good model is in the folder's checkpoints.
            InterruptedTrainingError: Ctrl-C or SIGTERM; a checkpoint was written.
            CheckpointError: nothing valid to resume, another recipe, or nowhere to write.
        """
        saved = self._restore() if resume else None
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []), self._signals():
            try:
                for number in range(self.stage_number, len(self.recipe.stages)):
                    self._run_stage(number, saved)
                    saved = None
            finally:
                notify(self.trackers, "close")
        if self.best is not None:
            self.model.load_state_dict(self.best[1])
        self.model.eval()
        self._warn_inactive()
        return Run(
            model=self.model, recipe=self.recipe, history=self.history, folder=self.folder, notes=self.notes
        )

    # One stage

    def _run_stage(self, number: int, saved: checkpoint.Checkpoint | None) -> None:
        stage = self.recipe.stages[number]
        self.stage, self.stage_number = stage, number
        self._set_up(stage, number, saved)
        self.model.train()
        notify(self.trackers, "start", f"{self.recipe.name or self.recipe.variant}", self.steps, self.done)
        every = max(1, self.steps // VALIDATIONS)
        keep = max(LOG_EVERY, self.steps // CHECKPOINTS)
        self._started, self._since = time.perf_counter(), self.done
        while self.done < self.steps:
            self._step()
            last = self.done == self.steps
            if self.done % LOG_EVERY == 0 or last:
                self._log()
            if self.held_out is not None and (self.done % every == 0 or last):
                self._validate()
            if self.folder is not None and self.done % keep == 0 and not last:
                self._save()
            if self._stop is not None and not last:
                self._interrupted()
        if self.averages is not None:
            self.averages.swap()
        self.done = 0

    def _set_up(self, stage: Stage, number: int, saved: checkpoint.Checkpoint | None) -> None:
        """Makes feed, players, optimizers and averages of a stage, from a checkpoint where there is one."""
        self.feed = Feed(self.data, self.recipe, stage.batch_size, self.device)
        self.steps = stage.steps or max(1, stage.epochs * self.feed.per_epoch // stage.accumulation)
        if stage.options:
            self._change_objective(stage)
        if isinstance(self.model.objective, WeightedObjective):
            self.model.objective.schedule(
                warmup=stage.rate_warmup, cycles=stage.rate_cycles, free_bits=stage.free_bits
            )
        for name in ("encoder", "decoder", "prior", "objective"):
            getattr(self.model, name).requires_grad_(not stage.train or name in stage.train)
        if saved is None and number == 0:
            self._initialize()
        self.players = self.model.players()
        self.optimizers = {name: self._optimizer(stage, own) for name, own in self.players.items() if own}
        self.averages = Averages(self.model, stage.average) if stage.average else None
        self.offset = sum(self._length(earlier) for earlier in self.recipe.stages[:number])
        self.step = torch.tensor(self.done, device=self.device)
        self.totals: dict[str, Tensor] = {}
        self.counted = 0
        if saved is not None:
            self._load(saved)

    def _length(self, stage: Stage) -> int:
        per_epoch = len(self.data) // min(stage.batch_size, len(self.data))
        return stage.steps or max(1, stage.epochs * per_epoch // stage.accumulation)

    def _initialize(self) -> None:
        """Lets parts start from the first images of the set's own order."""
        self._reseed(-3, 0)
        count = min(START_IMAGES, len(self.data))
        generator = torch.Generator().manual_seed(noise_seed(self.recipe.seed, -4, 0))
        indices = torch.randperm(len(self.data), generator=generator)[:count].to(self.device)
        batches = [self.feed.take(part) for part in indices.split(500)]
        # Dynamic draws are noisy: a bias starts at the mean of the pixels, which needs more images than a codebook does.
        self.model.initialize(batches, self.fresh)

    def _optimizer(self, stage: Stage, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if stage.optimizer == "adam" else torch.optim.AdamW
        return kind(
            parameters,
            lr=stage.learning_rate,
            betas=stage.betas,
            eps=stage.epsilon,
            weight_decay=stage.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )

    # One step

    def _step(self) -> None:
        stage, seen = self.stage, []
        for micro in range(stage.accumulation):
            self._reseed(self.offset + self.done, micro)
            x, c = self.feed.take(self.feed.indices(self.done * stage.accumulation + micro))
            with self._precision():
                elbo = cast(ELBO, self.model.objective(self.model, x, c, self.step))
            self._backward(elbo, stage.accumulation)
            self._count(elbo)
            if elbo.seen:
                seen.append(elbo.seen)
        for name, optimizer in self.optimizers.items():
            if stage.clip:
                nn.utils.clip_grad_norm_(self.players[name], stage.clip)
            optimizer.param_groups[0]["lr"] = self._learning_rate(stage.learning_rates.get(name, stage.learning_rate))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.done += 1
        if seen:
            self.model.after_step(seen, self.step)
        self.step += 1
        if self.done % SWEEP_EVERY == 0:
            sweep(self.optimizers.values())
        if self.averages is not None:
            self.averages.update(self.done)

    def _backward(self, elbo: ELBO, accumulation: int) -> None:
        names = [name for name in elbo.losses if self.players.get(name)]
        for position, name in enumerate(names):
            loss = elbo.losses[name].mean()
            if not math.isfinite(loss.item()):
                self._non_finite(elbo, name)
            inputs = None if len(self.players) == 1 else self.players[name]
            (loss / accumulation if accumulation > 1 else loss).backward(
                inputs=inputs, retain_graph=position + 1 < len(names)
            )

    def _count(self, elbo: ELBO) -> None:
        """Adds a pass to the running totals, per example and without leaving the device."""
        named = {"distortion": elbo.distortion, "rate": elbo.rate, "bound": elbo.bound, **elbo.terms}
        named |= {f"loss_{name}": value for name, value in elbo.losses.items()} if len(elbo.losses) > 1 else {}
        with torch.no_grad():
            for name, value in named.items():
                if name in self.totals:
                    self.totals[name] += value
                else:
                    self.totals[name] = value.detach().clone()
        self.counted += 1

    def _learning_rate(self, base: float) -> float:
        stage = self.stage
        share = min(1.0, (self.done + 1) / stage.warmup) if stage.warmup else 1.0
        if stage.schedule == "cosine":
            low = stage.final_learning_rate * base / stage.learning_rate
            return share * (low + (base - low) * 0.5 * (1.0 + math.cos(math.pi * self.done / self.steps)))
        return share * base

    def _reseed(self, step: int, micro: int) -> None:
        seed = noise_seed(self.recipe.seed, step, micro)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _precision(self) -> torch.autocast | nullcontext[None]:
        if self.stage.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    # What is noticed

    def _log(self) -> None:
        metrics: dict[str, float] = {"step": self.offset + self.done, "stage": self.stage_number}
        metrics |= {name: (total / self.counted).mean().item() for name, total in self.totals.items()}
        if isinstance(self.model.objective, WeightedObjective):
            metrics["rate_weight"] = float(self.model.objective.rate(self.step))
        metrics["learning_rate"] = next(iter(self.optimizers.values())).param_groups[0]["lr"]
        self.totals, self.counted = {}, 0
        self._record(metrics)
        images = (self.done - self._since) * self.feed.size * self.stage.accumulation
        speed = images / max(time.perf_counter() - self._started, 1e-9)
        self._started, self._since = time.perf_counter(), self.done
        self._append("timing.jsonl", {"step": metrics["step"], "images_per_second": speed})
        notify(self.trackers, "log", self.done, {**metrics, "images_per_second": speed})

    def _record(self, metrics: dict[str, float]) -> None:
        self.history.append(metrics)
        self._append("metrics.jsonl", metrics)

    def _append(self, name: str, line: Mapping[str, float]) -> None:
        if self.folder is None:
            return
        finite = {key: value if math.isfinite(value) else None for key, value in line.items()}
        try:
            with open(self.folder / name, "a", encoding="utf-8") as file:
                file.write(json.dumps(finite) + "\n")
        except OSError as error:
            raise CheckpointError(f"Could not write {self.folder / name}: {error}. The last checkpoint is intact.") from None

    def _validate(self) -> None:
        """Measures the held-out images with the averaged weights, and keeps the best ones so far."""
        assert self.held_out is not None
        with self._final_weights():
            bound, distortion, rate = held_out_figures(self.model, self.held_out, self.recipe, self.device)
            value = bound if math.isfinite(bound) else -distortion
            if self.best is None or value > self.best[0]:
                self.best = (value, {key: tensor.clone() for key, tensor in self.model.state_dict().items()})
        self._record(
            {
                "step": self.offset + self.done,
                "validation_bound": bound,
                "validation_distortion": distortion,
                "validation_rate": rate,
            }
        )

    @contextmanager
    def _final_weights(self) -> Iterator[None]:
        if self.averages is not None:
            self.averages.swap()
        self.model.eval()
        try:
            yield
        finally:
            self.model.train()
            if self.averages is not None:
                self.averages.swap()

    def _warn_inactive(self) -> None:
        """Warns when most latents carry nothing."""
        indices = torch.arange(min(1000, len(self.data)), device=self.device)
        with torch.no_grad(), seeded(0, self.device):
            x, c = self.feed.take(indices)
            posterior = self.model.encoder(x, c)
            centres = center(posterior).flatten(1)
        if not hasattr(posterior, "indices") and len(indices) > 1:
            active = int((centres.var(0) > ACTIVE_VARIANCE).sum())
            if active < centres.shape[1] / 2:
                text = (
                    f"{active} of {centres.shape[1]} latents are active (variance of the posterior mean over "
                    f"{ACTIVE_VARIANCE}); the others carry nothing. Fewer latents, a smaller rate weight, or rate_warmup may help."
                )
                self.notes.append(text)
                warnings.warn(text, stacklevel=4)

    def _non_finite(self, elbo: ELBO, player: str) -> None:
        parts = {"distortion": elbo.distortion, "rate": elbo.rate, **elbo.terms, f"loss of {player}": elbo.losses[player]}
        term = next(name for name, value in parts.items() if not bool(torch.isfinite(value).all()))
        rows = (~torch.isfinite(parts[term])).nonzero().flatten()
        images = self.feed.indices(self.done)[rows[: min(5, len(rows))] % self.feed.size].tolist()
        kept = "Nothing was written; train with a folder to keep checkpoints."
        if self.folder is not None:
            good = all(bool(torch.isfinite(p).all()) for p in self.model.parameters())
            if good:
                self._save()
            kept = f"The last good model is the newest checkpoint in {self.folder / 'checkpoints'}."
        raise NonFiniteLossError(
            f"The {term} became non-finite at step {self.offset + self.done + 1}, batch {self.done % self.feed.per_epoch} "
            f"of its epoch, training images {images}. No weight was changed by it. {kept} Lower the learning rate, clip "
            "gradients (train.clip = 1.0), or look at these images."
        )

    # Stopping and going on

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Lets Ctrl-C and SIGTERM end the step first; a second Ctrl-C ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: object) -> None:
            if self._stop is not None:
                raise KeyboardInterrupt
            self._stop = signal.Signals(number)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupted(self) -> None:
        at = f"Stopped at step {self.offset + self.done} of {self.offset + self.steps}"
        if self.folder is None:
            raise InterruptedTrainingError(f"{at}; nothing was written, because the run has no folder.")
        self._save()
        raise InterruptedTrainingError(
            f"{at}; a checkpoint is in {self.folder}. To go on: vaezoo train {self.recipe.name} --resume --out {self.folder}"
        )

    def _save(self) -> None:
        assert self.folder is not None
        groups: dict[str, dict[str, Tensor]] = {
            "model": {key: tensor.contiguous() for key, tensor in self.model.state_dict().items()},
            "averages": dict(self.averages.values) if self.averages is not None else {},
            "optimizers": pack_optimizers(self.optimizers),
            "totals": self.totals,
            "best": {key: tensor.contiguous() for key, tensor in self.best[1].items()} if self.best else {},
        }
        state = {
            "stage": self.stage_number,
            "done": self.done,
            "counted": self.counted,
            "best": self.best[0] if self.best else None,
            "recipe": self.recipe.digest,
            "data": self.data.digest,
            "lines": len(self.history),
            "torch": torch.__version__,
        }
        place = self.folder / "checkpoints"
        content = checkpoint.Checkpoint(tensors={k: v for k, v in groups.items() if v}, state=state)
        checkpoint.write_folder(place / f"step-{self.offset + self.done:09d}", content)
        checkpoint.prune(place, keep=2)

    def _restore(self) -> checkpoint.Checkpoint | None:
        if self.folder is None:
            raise CheckpointError("Nothing to resume: the run has no folder.")
        found = checkpoint.newest(self.folder / "checkpoints")
        if found is None:
            return None
        path, saved, passed_over = found
        for text in passed_over:
            warnings.warn(text, stacklevel=3)
        state = saved.state
        for key, now, what in (("recipe", self.recipe.digest, "recipe"), ("data", self.data.digest, "data set")):
            if state.get(key) != now:
                raise CheckpointError(
                    f"{path} was written by another {what} ({str(state.get(key))[:12]}… there, {now[:12]}… now). Resume "
                    "with the same one, or train into a new folder."
                )
        self.stage_number, self.done = int(cast(int, state["stage"])), int(cast(int, state["done"]))
        lines = int(cast(int, state["lines"]))
        text = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[:lines] if lines else []
        self.history = [json.loads(line) for line in text]
        checkpoint.write_file(self.folder / "metrics.jsonl", "".join(f"{line}\n" for line in text).encode())
        return saved

    def _load(self, saved: checkpoint.Checkpoint) -> None:
        """Puts a checkpoint's tensors where they were."""
        self.model.load_state_dict(dict(saved.tensors["model"]))
        if self.averages is not None:
            for name, value in saved.tensors["averages"].items():
                self.averages.values[name].copy_(value)
        unpack_optimizers(self.optimizers, saved.tensors.get("optimizers", {}))
        self.totals = {key: value.to(self.device) for key, value in saved.tensors.get("totals", {}).items()}
        self.counted = int(cast(int, saved.state["counted"]))
        if saved.state["best"] is not None:
            best = {key: value.to(self.device) for key, value in saved.tensors["best"].items()}
            self.best = (float(cast(float, saved.state["best"])), best)

    # What a recipe may ask of an objective

    def _check_schedule(self, stage: Stage) -> None:
        asked = [name for name in ("rate_warmup", "rate_cycles", "free_bits") if getattr(stage, name)]
        if asked and not self.model.objective.has_rate_weight:
            raise RecipeError(
                f"train.{asked[0]}: the objective of {self.recipe.variant!r} has no rate weight to schedule. Leave it out."
            )

    def _change_objective(self, stage: Stage) -> None:
        options = {**self.recipe.options, **stage.options}
        table = self.recipe.architecture
        twin = create(
            self.recipe.variant, shape=self.data.shape, latent=table.latent, context=self.model.context,
            backbone=table.backbone, likelihood=table.likelihood, examples=len(self.data), **options,
        )  # fmt: skip
        twin.objective.load_state_dict(self.model.objective.state_dict(), strict=False)
        self.model.objective = twin.objective.to(self.device)
        self.model.config = twin.config


def sweep(optimizers: object) -> None:
    """Zeroes the denormal tails of Adam's moments.

    Weights of pixels that are always black get no gradient; their moments decay into denormal numbers, which a CPU handles
    tens of times slower. What is zeroed would have moved a weight by less than 1e-17 of the learning rate.
    """
    for optimizer in cast("Sequence[torch.optim.Optimizer]", optimizers):
        for state in optimizer.state.values():
            for key, limit in (("exp_avg", 1e-25), ("exp_avg_sq", 1e-35)):
                moment = state[key]
                moment.masked_fill_(moment.abs() < limit, 0.0)


def pack_optimizers(optimizers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Returns every optimizer's state as flat tensors, `player/index/key`."""
    return {
        f"{player}/{index}/{key}": value.detach().contiguous()
        for player, optimizer in optimizers.items()
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }


def unpack_optimizers(optimizers: Mapping[str, torch.optim.Optimizer], flat: Mapping[str, Tensor]) -> None:
    """Puts the tensors of `pack_optimizers` back."""
    for player, optimizer in optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in flat.items():
            owner, index, name = key.rsplit("/", 2)
            if owner == player:
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def held_out_figures(
    model: VAE, data: Dataset, recipe: Recipe, device: torch.device
) -> tuple[float, float, float]:
    """Returns mean bound, distortion and rate (nats) of a model in eval mode; the noise is the same at every call."""
    feed = Feed(data, recipe, len(data), device)
    sums = torch.zeros(3, dtype=torch.float64)
    with seeded(noise_seed(recipe.seed, -5, 0), device):
        for indices in torch.arange(len(data), device=device).split(500):
            x, c = feed.take(indices)
            elbo = cast(ELBO, model.objective(model, x, c, None))
            bound = elbo.bound if model.has_density(x) else torch.full_like(elbo.bound, -torch.inf)
            sums += torch.stack([bound.sum(), elbo.distortion.sum(), elbo.rate.sum()]).double().cpu()
    bound_mean, distortion, rate = (sums / len(data)).tolist()
    return bound_mean, distortion, rate
