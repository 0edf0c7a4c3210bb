"""`Trainer`: runs the stages of a recipe, with metrics, validation, checkpoints, interruption and resume."""

import logging
import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch

from vaezoo.core import VAE, headline, learning, rows_at_once, seeded
from vaezoo.data import Dataset
from vaezoo.errors import CheckpointError, InterruptedTrainingError, NonFiniteLossError, RecipeError, warn
from vaezoo.recipe import Recipe
from vaezoo.storage import checkpoint
from vaezoo.trainer.batches import START, START_IMAGES, BatchStream, noise_seed, stage_steps
from vaezoo.trainer.checkpoints import Best, Checkpoints, restored_best
from vaezoo.trainer.compilation import memory_format
from vaezoo.trainer.history import kept_line, summary_of
from vaezoo.trainer.lock import locked
from vaezoo.trainer.metrics_log import MetricsLog
from vaezoo.trainer.notes import has_bound, note_on_divergence, notes_before
from vaezoo.trainer.parallel import check_shardable, whole_tensors
from vaezoo.trainer.processes import Processes
from vaezoo.trainer.setup import every_example_has_a_density, make_feed
from vaezoo.trainer.signals import StopRequest
from vaezoo.trainer.stage_run import StageRun
from vaezoo.trainer.stages import Stages
from vaezoo.trainer.tracking import Tracker
from vaezoo.trainer.validation import feed_figures, largest_batch, notes_on

LOG_EVERY = 100  # steps between two lines of metrics
VALIDATIONS = 20  # validations per stage
CHECKPOINTS = 10  # checkpoints per stage
START_BYTES = 2**27  # of the examples for data-dependent initialization


@dataclass(frozen=True, kw_only=True, repr=False)
class Run:
    """A finished run: the model in eval mode, its metrics as in `metrics.jsonl`, and notes for the user.

    Figures are nats per example; None if undefined, such as a bound on data that have no density.
    """

    model: VAE
    recipe: Recipe
    history: list[dict[str, float | None]]
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    #: extensions of the run: step, steps of the last stage before and after, digest of the old recipe
    extensions: list[dict[str, object]] = field(default_factory=list)

    @property
    def kept(self) -> dict[str, float | None] | None:
        """The line of `history` with the held-out figures of the weights that were kept; None if none were held out."""
        return kept_line(self.history)

    @property
    def summary(self) -> str:
        """The final figures as a sentence: those of the held-out images and the step whose weights were kept."""
        return summary_of(self.history)

    def __repr__(self) -> str:
        """Returns recipe, model, final figures, folder and notes, one on each line."""
        steps = int(self.history[-1]["step"] or 0) if self.history else 0
        lines = [
            f"Run of {self.recipe.name or self.recipe.variant}, {steps:,} steps",
            headline(self.model),
            self.summary,
        ]
        lines += [] if self.folder is None else [f"folder: {self.folder}"]
        return "\n  ".join([*lines, *(f"note: {each}" for each in self.notes)])


class Trainer:
    """Trains one model by one recipe.

    Args:
        recipe: the stages and their settings.
        model: the model, built by `build_model` or pretrained; moved to `device`.
        data: the training set, binarized as the recipe states (`vaezoo.data.binarize`).
        held_out: validation set that selects the best weights, binarized likewise; None keeps the last weights.
        folder: for checkpoints and metrics; None writes nothing.
        device: where to train.
        trackers: receive the metrics.
        fresh: the parts that are initialized from data; None for all.
        any_size: allow to resume a run that was started with another number of processes.

    Raises:
        RecipeError: the recipe sets an option that the variant or the data does not support.
        ContextError: the context of the data does not fit the model.
        ConfigError: the recipe shards a model that cannot be sharded.
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
        any_size: bool = False,
    ) -> None:
        self.ranks = Processes.current()
        self.device = device or torch.device("cpu")
        self.recipe, self.model, self.data, self.fresh = recipe, model.to(self.device), data, fresh
        self.folder = None if folder is None else Path(folder)
        self.best = Best()
        if self.ranks.size > 1 and any(stage.parallel == "fsdp" for stage in recipe.stages):
            check_shardable(model)
        self._stages = Stages(recipe, model, data)
        if held_out is None and any(stage.patience for stage in recipe.stages):
            raise RecipeError(
                "Got patience without held-out images; it ends a stage when their figures do not improve. Set "
                "data.validation, or pass validation=."
            )
        self._held_out = (
            None if held_out is None else make_feed(recipe, model, held_out, largest_batch(recipe), self.device)
        )
        self._feed = self._batches(recipe.stages[0].batch_size)
        # Only the first process writes metrics; every process reads checkpoints.
        self._journal = MetricsLog(self.folder if self.ranks.first else None, trackers if self.ranks.first else ())
        self._checkpoints = None
        if self.folder is not None:
            self._checkpoints = Checkpoints(self.folder, recipe, model, data, held_out, self.ranks.size, any_size)
        self._saved_at: int | None = None
        self._stop = StopRequest()
        self._notes, self._diverged = list[str](), False

    @property
    def history(self) -> list[dict[str, float | None]]:
        """The metrics so far, one dict for each line of `metrics.jsonl`."""
        return self._journal.history

    @learning
    def fit(self, resume: bool = False, extend: bool = False, finish: Callable[[Run], None] | None = None) -> Run:
        """Runs all stages, or those that remain after a resume, and returns the model with its best weights.

        The best weights have the highest bound on the held-out images (the lowest distortion where there is no bound);
        without held-out images they are the last ones.

        Args:
            resume: continue from the newest valid checkpoint of the folder; start anew if there is none.
            extend: resume a run, finished or not, whose recipe now has another number of steps in its last stage,
                additional stages, or other settings in `vaezoo.recipe.COURSE`.
            finish: called with the finished run, such as to save it, before any note about it is computed.

        Raises:
            SupportError, ShapeError: the likelihood cannot be trained on the data; raised before the first step.
            NonFiniteLossError: a loss or a gradient became NaN or infinite; the last good weights are in a checkpoint.
            InterruptedTrainingError: Ctrl-C or SIGTERM; a checkpoint was written. (SIGUSR1 only writes a checkpoint.)
            CheckpointError: no valid checkpoint, another recipe, or a folder that cannot be written.
        """
        with nullcontext() if self.folder is None or not self.ranks.first else locked(self.folder):
            self._run_stages(resume, extend)
            if self.best.weights is not None:
                self.model.load_state_dict(dict(whole_tensors(self.best.weights)))
            self.model.eval()
            extensions = [] if self._checkpoints is None else self._checkpoints.extensions
            run = Run(
                model=self.model, recipe=self.recipe, history=self.history, folder=self.folder, extensions=extensions
            )
            if finish is not None:
                finish(run)
        self._note(notes_on(self.model, self._feed))
        run.notes.extend(self._notes)
        return run

    def _run_stages(self, resume: bool, extend: bool) -> None:
        self._notes, self._diverged = [], False
        with ExitStack() as stack:
            stack.enter_context(self._stop.listening())
            stack.callback(self._journal.trackers.notify, "close")
            stack.callback(self._stages.end)
            stack.callback(lambda: self._feed.close())
            self._density = every_example_has_a_density(self.model, self._feed)
            if self._held_out is not None:
                self._held_out_density = every_example_has_a_density(self.model, self._held_out)
            self._note_before()
            saved = self._begin(resume, extend)
            first = 0 if saved is None else int(cast(int, saved.state["stage"]))
            for number in range(first, len(self.recipe.stages)):
                self._run_stage(number, saved)
                saved = None

    # One stage

    def _run_stage(self, number: int, saved: checkpoint.Checkpoint | None) -> None:
        stage = self.recipe.stages[number]
        self._stages.begin(number, self.device)
        with memory_format(self.model, stage):
            run = self._set_up(number, saved)
            run.model.train()
            try:
                self._take_steps(run, number)
                if run.averaged is not None:
                    run.averaged.swap()
            except (NonFiniteLossError, InterruptedTrainingError):  # in all processes
                run.engine.finish()
                raise
            run.engine.finish()

    def _take_steps(self, run: StageRun, number: int) -> None:
        self._journal.trackers.stage(number + 1, len(self.recipe.stages))
        self._journal.trackers.notify("start", self.recipe.name or self.recipe.variant, run.steps, run.done)
        validate_every, save_every = max(1, run.steps // VALIDATIONS), max(LOG_EVERY, run.steps // CHECKPOINTS)
        self._clock = (run.done, time.perf_counter())
        periods = LOG_EVERY, validate_every, save_every
        if run.done == run.steps and self._checkpoints is not None and self._checkpoints.changed:
            self._saved_at = None  # the recipe now ends at the step of the checkpoint
            self._act(run, number, periods)
        while run.done < run.steps and not self._patience_is_over(run):
            self._advance(run, number, periods)
            self._act(run, number, periods)

    def _act(self, run: StageRun, number: int, periods: tuple[int, int, int]) -> None:
        """Logs, validates and saves, when due after a step."""
        log, validate, save = (run.done % period == 0 for period in periods)
        last = run.done == run.steps
        if (log or last) and run.counted:
            self._log(run, number)
        if validate or last:
            self._validate(run, number)
        if not last and self._patience_is_over(run):
            last = True
            if not log:
                self._log(run, number)
        if save or last or self.ranks.save:
            self._save(run, number)
        if self.ranks.stop and not last:
            self._interrupted(run, number)

    def _patience_is_over(self, run: StageRun) -> bool:
        """Returns whether the held-out images have not improved for as many measurements as the stage allows."""
        return 0 < run.stage.patience <= self.best.waited

    def _batches(self, size: int) -> BatchStream:
        share = self.recipe.data.labelled_share
        return make_feed(self.recipe, self.model, self.data, size, self.device, labelled_share=share)

    def _set_up(self, number: int, saved: checkpoint.Checkpoint | None) -> StageRun:
        """Returns a stage at its first step, or in the state of a checkpoint."""
        stage = self.recipe.stages[number]
        self._feed.close()
        self._feed = self._batches(stage.batch_size)
        if saved is None:
            self._initialize(number)
            self.best.waited = 0
        offset = sum(stage_steps(each, len(self.data), self.ranks.size) for each in self.recipe.stages[:number])
        done = 0 if saved is None else int(cast(int, saved.state["done"]))
        self.ranks.broadcast([*self.model.parameters(), *self.model.buffers()])
        run = StageRun(self.model, stage, self._feed, offset=offset, done=done, ranks=self.ranks)
        if saved is not None:
            try:
                run.load(saved)
                self.best.weights = self.best.weights and run.engine.placed(self.best.weights)
                cast("dict[str, object]", saved.tensors).clear()  # they would take memory until the stage ends
            except (LookupError, RuntimeError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"The tensors of the newest checkpoint in {self.folder} are not those of this run "
                    f"({type(error).__name__}: {str(error)[:300]}). Train into a new folder."
                ) from None
            self._saved_at = run.number
        if stage.accumulation * self.ranks.size > 1:
            sizes = (self._feed.size, stage.accumulation, self.ranks.size)
            text = "Global batch: %d examples (batch size %d x accumulation %d x %d processes)."
            logging.getLogger("vaezoo").info(text, math.prod(sizes), *sizes)
        return run

    def _initialize(self, number: int) -> None:
        """Initializes parts on the first process from a seeded subset of the data; the result is broadcast later."""
        parts = [name for name in self._stages.starting(number) if self.fresh is None or name in self.fresh]
        if parts and self.ranks.first:
            generator = torch.Generator().manual_seed(noise_seed(self.recipe.seed, START_IMAGES, 0))
            order = torch.randperm(len(self.data), generator=generator)
            most = max(self._feed.size, START_BYTES // (4 * math.prod(self.data.shape)))
            indices = order[: min(most, self.model.initialization_examples(parts))].to(self.device)
            rows = rows_at_once(self.data.shape, 500, self._feed.size)
            with seeded(noise_seed(self.recipe.seed, START, number)):
                self.model.initialize([self._feed.take(part) for part in indices.split(rows)], parts)

    def _advance(self, run: StageRun, number: int, periods: Sequence[int]) -> None:
        """Takes a step, and reads the deferred check for non-finite values before anything else is read or saved."""
        try:
            if self.ranks.size > 1:  # the step exchanges the requests, so that all processes act after the same step
                self._read_signals()
            run.advance()
            if self.ranks.size == 1:
                self._read_signals()
            self._journal.trackers.advance(run.done)
            due = run.done == run.steps or any(run.done % period == 0 for period in periods)
            if due or self.ranks.stop or self.ranks.save:
                run.settle()
        except NonFiniteLossError as error:
            lower = f"train.learning_rate={run.stage.learning_rate / 2:g}"
            kept = "Nothing was saved; train with a folder to keep checkpoints."
            if self._checkpoints is not None:
                self._save(run, number)
                kept = (
                    f"The last good weights are in the newest checkpoint in {self._checkpoints.place}. To continue, "
                    f"repeat the command with {lower} train.clip=1.0 --resume --extend --out {self.folder} (in Python: "
                    "extend=True)."
                )
            raise NonFiniteLossError(
                f"{error} The update was not applied. {kept} Lower the learning rate, clip gradients "
                "(train.clip = 1.0), or inspect these images."
            ) from None

    # Metrics

    def _note_before(self) -> None:
        """Warns of data and settings that look wrong, once, by the first process."""
        self._bounded = self._density and has_bound(self.recipe)
        held_out = [] if self._held_out is None or self._held_out_density else [self._held_out.data]
        without = [*([] if self._density else [self.data]), *held_out]
        if self.ranks.first:
            self._note(notes_before(self.recipe, self.model, self._feed, without[:1]))

    def _note_divergence(self, run: StageRun) -> None:
        """Warns of a run that diverges, once, by the first process."""
        if self._diverged or not self.ranks.first:
            return
        start = [{"step": run.offset, **{name: value.item() for name, value in run.start.items()}}] if run.start else []
        text = note_on_divergence([*start, *self.history], self._bounded)
        self._diverged = text is not None
        self._note([] if text is None else [text])

    def _note(self, texts: Sequence[str]) -> None:
        for text in texts:
            warn(text)
        self._notes += texts

    def _log(self, run: StageRun, number: int) -> None:
        metrics: dict[str, float] = {"step": run.number, "stage": number, **run.take_means()}
        if not self._density:
            metrics["bound"] = -math.inf
        if run.model.objective.has_rate_weight:
            metrics["rate_weight"] = run.model.objective.rate_weight(run.step)
        metrics["learning_rate"] = next(iter(run.optimizers.values())).param_groups[0]["lr"]
        self._journal.record(metrics)
        self._note_divergence(run)
        done, since = self._clock
        self._clock = (run.done, time.perf_counter())
        images = (run.done - done) * run.feed.size * run.stage.accumulation * self.ranks.size
        self._journal.notify(run.done, metrics, images / max(self._clock[1] - since, 1e-9))

    def _validate(self, run: StageRun, number: int) -> None:
        """Measures the held-out images with the averaged weights, and keeps the weights if they are the best so far."""
        measured = {line["step"] for line in self.history[-2:] if "validation_rate" in line}
        if self._held_out is None or run.number in measured:
            return
        if run.averaged is not None:
            run.averaged.swap()
        run.model.eval()
        try:
            bound, distortion, rate = feed_figures(run.engine, self._held_out, self._held_out_density, self.ranks)
            self.best.offer(bound, distortion, run.model)
        finally:
            run.model.train()
            if run.averaged is not None:
                run.averaged.swap()
        figures = {"validation_bound": bound, "validation_distortion": distortion, "validation_rate": rate}
        metrics = {"step": run.number, "stage": number, **figures}
        self._journal.record(metrics)
        self._journal.notify(run.done, metrics)

    # Interruption and resume

    def _read_signals(self) -> None:
        """Takes over the requests that this process received by signals."""
        self.ranks.stop = self._stop.received is not None
        self.ranks.save = self._stop.take_checkpoint_request()

    def _interrupted(self, run: StageRun, number: int) -> None:
        at = f"Stopped at step {run.number} of {run.offset + run.steps}"
        by = self._stop.received or signal.SIGTERM  # received by another process
        if self._checkpoints is None:
            raise InterruptedTrainingError(f"{at}; nothing was written, because the run has no folder.", by)
        self._save(run, number)
        raise InterruptedTrainingError(
            f"{at}; a checkpoint is in {self._checkpoints.place}. To continue, repeat the same command with "
            f"--resume --out {self.folder} (in Python: resume=True).",
            by,
        )

    def _save(self, run: StageRun, number: int) -> None:
        """Writes a checkpoint, at most once after each step."""
        if self._checkpoints is None or self._saved_at == run.number:
            return
        self._journal.flush()
        groups = {**run.tensors(), "best": run.engine.gathered(self.best.weights or {})}  # by all processes
        if self.ranks.first:
            state = {"stage": number, "lines": len(self.history), **run.state()}
            self._checkpoints.save(run.number, groups, state, self.best)
        self.ranks.wait()
        self._saved_at = run.number

    def _begin(self, resume: bool, extend: bool) -> checkpoint.Checkpoint | None:
        """Returns the checkpoint to continue from; None to start from the beginning."""
        self._saved_at, saved, lines = None, None, 0
        if self._checkpoints is None:
            if resume or extend:
                raise CheckpointError("Nothing to resume: the run has no folder.")
        elif resume or extend:
            saved = self._checkpoints.newest(extend)
        else:
            self._checkpoints.refuse_if_any()
        if saved is not None:
            self.best, lines = restored_best(saved, self.device), int(cast(int, saved.state["lines"]))
            if self._checkpoints is not None and self._checkpoints.changed:
                self.best.waited = 0
        if not self._journal.begin(lines) and self.ranks.first:
            warn(f"{self.folder}/metrics.jsonl lacks lines; the run goes on without them.")
        if self._checkpoints is not None and self.ranks.first:
            self._checkpoints.write_recipe()
        return saved
