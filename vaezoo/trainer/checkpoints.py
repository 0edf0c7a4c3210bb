"""Checkpoints of a run: their contents, and whether a checkpoint matches the run being resumed.

They hold model, averages, optimizers, running totals and the best weights so far, but no state of a random generator,
since none outlives a step: `StageRun.noise` is seeded before each micro-batch, `after_step` continues
from there, held-out images are measured with a seed of their own, and no part of the loop uses `random` or numpy's
global state.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import torch
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.data import Dataset
from vaezoo.errors import CheckpointError, CorruptWeightsError, warn
from vaezoo.recipe import COURSE, Recipe, adds_stages, changes, course_changes, differ_in_length_only
from vaezoo.storage import checkpoint
from vaezoo.storage.config import Count
from vaezoo.storage.files import library_version, write_file
from vaezoo.storage.json_files import canonical
from vaezoo.trainer.batches import stage_steps

KEEP = 2  # checkpoints on disk


@dataclass
class Best:
    """The best weights so far: highest bound on the held-out images, or lowest distortion where there is no bound."""

    #: (whether there is a bound, the bound or else the negative distortion): larger is better
    score: tuple[bool, float] | None = None
    weights: Mapping[str, Tensor] | None = None
    waited: int = 0  #: measurements in this stage since the last improvement

    def offer(self, bound: float, distortion: float, model: VAE) -> None:
        """Keeps a copy of the model's weights if its figures are the best so far; NaN and infinity never are."""
        score = (True, bound) if math.isfinite(bound) else (False, -distortion)
        self.waited += 1
        if math.isfinite(score[1]) and (self.score is None or score > self.score):
            self.score, self.waited = score, 0
            self.weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}


class RunState(msgspec.Struct):
    """The fields of a checkpoint's state that are read; earlier versions lack those with a default."""

    stage: Count
    done: Count
    counted: Count
    lines: Count
    totals: list[str]
    best: tuple[bool, float] | None
    waited: Count = 0
    averaged: bool = False
    processes: Count = 1
    of: dict[str, str | None] = {}
    recipe: dict[str, object] | None = None
    config: dict[str, object] | None = None
    extensions: list[dict[str, object]] = []
    versions: dict[str, str] = {}


class Checkpoints:
    """The checkpoints in the folder of one run.

    Args:
        folder: of the run.
        recipe, model, data, held_out: of the run; a checkpoint of any others is refused.
        processes: number of processes; a checkpoint of another number is refused unless `any_size`.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        model: VAE,
        data: Dataset,
        held_out: Dataset | None,
        processes: int,
        any_size: bool,
    ) -> None:
        self.folder, self.place = folder, folder / "checkpoints"
        self._size, self._any_size = processes, any_size
        self.extensions: list[dict[str, object]] = []  # see `Run`
        self.changed = False  # whether the checkpoint has other settings of the last steps
        self._model = model
        self._recipe, self._examples = recipe, len(data)
        self._identity = {
            "recipe": recipe.digest,
            "data set": data.digest,
            "held-out set": None if held_out is None else held_out.digest,
            "number type": next((str(parameter.dtype) for parameter in model.parameters()), None),
        }

    def save(
        self, step: int, groups: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, object], best: Best
    ) -> None:
        """Writes the checkpoint after `step` steps, and then removes all but the newest ones.

        Raises:
            CheckpointError: disk full or no permission; the earlier checkpoints are intact.
        """
        content = checkpoint.Checkpoint(
            tensors={name: group for name, group in groups.items() if group},
            state={
                **state,
                "best": best.score,
                "waited": best.waited,
                "config": self._model.config,
                "of": self._identity,
                "recipe": self._recipe.settings,
                "extensions": self.extensions,
                "processes": self._size,
                "versions": versions(),
            },
        )
        checkpoint.write_folder(self.place / f"step-{step:09d}", content)
        checkpoint.prune(self.place, KEEP, step)

    def write_recipe(self) -> None:
        """Writes the recipe, with all defaults, beside the checkpoints, and removes incomplete files of a crash."""
        checkpoint.remove_stale_files(self.folder)
        checkpoint.remove_stale_files(self.place)
        write_file(self.folder / "recipe.json", canonical(self._recipe.as_dict()).encode())

    def refuse_if_any(self) -> None:
        """Raises CheckpointError if the folder holds checkpoints: they would be mistaken for those of a new run."""
        if any(self.place.glob("step-*")):
            raise CheckpointError(
                f"{self.place} holds checkpoints of another run. Resume it (resume=True, --resume), or choose "
                "another folder."
            )

    def _limit(self, state: Mapping[str, object]) -> int:
        """Returns the most bytes in the tensors of a checkpoint of this run, after its state was validated."""
        try:
            msgspec.convert(dict(state), RunState, strict=True)
        except (msgspec.ValidationError, OverflowError) as error:
            raise CorruptWeightsError(f"Its state is not that of a run: {str(error)[:300]}.") from None
        return checkpoint.limit_for(sum(tensor.numel() for tensor in self._model.state_dict().values()))

    def newest(self, extend: bool = False) -> checkpoint.Checkpoint | None:
        """Returns the newest valid checkpoint, or None without any checkpoint; warns of each broken one.

        Args:
            extend: also accept a recipe whose last stage has another length, with other settings in `COURSE` (both are
                recorded), or that lacks the last stages.

        Raises:
            CheckpointError: no checkpoint is valid, or it has another recipe, data set, dtype or number of processes.
        """
        found = checkpoint.newest(self.place, self._limit)
        if found is None:
            return None
        path, saved, passed_over = found
        for text in passed_over:
            warn(text)
        written = cast(Mapping[str, object], saved.state.get("of", {}))
        self.extensions = list(cast("list[dict[str, object]]", saved.state.get("extensions", [])))
        for what, now in self._identity.items():
            # Earlier versions recorded no number type.
            then = written.get(what, now if what == "number type" else None)
            if then != now and what == "recipe":
                self._accept_recipe(path, saved.state, extend)
            elif then != now:
                raise CheckpointError(
                    f"{path} was written with another {what} ({short(then)} there, {short(now)} now). Use the same "
                    "one, or train into a new folder."
                )
        size = saved.state.get("processes", 1)
        if size != self._size and not self._any_size:
            raise CheckpointError(
                f"{path} was written by {size} processes, this run has {self._size}; steps and epochs differ in size. "
                "Start as many processes, or allow it with --any-size (in Python: any_size=True)."
            )
        warn_of_versions(path, saved.state)
        return saved

    def _accept_recipe(self, path: Path, state: Mapping[str, object], extend: bool) -> None:
        """Accepts, with `extend`, changes of the remaining steps, which are recorded, or more stages; else raises."""
        then, now = Recipe.from_settings(state.get("recipe")), self._recipe
        advice = "Use the same one, or train into a new folder."
        if then is None:
            raise CheckpointError(f"{path} was written with another recipe, which this version cannot read. {advice}")
        was, steps = (stage_steps(recipe.stages[-1], self._examples, self._size) for recipe in (then, now))
        other, further = differ_in_length_only(then, now), adds_stages(then, now)
        if extend and (other or further):
            self._check_length(path, state, steps)
            course = course_changes(then, now)
            self.changed = other or bool(course)
            if self.changed:
                more = {"changes": course} if course else {}
                record = {"step": checkpoint.step_of(path), "from": was, "to": steps if other else was}
                self.extensions.append({**record, "recipe": then.digest, **more})
            return
        if other or further:
            advice += " To continue this run with these settings, add --extend to --resume (in Python: extend=True)."
        elif extend:
            advice += (
                " --extend allows another number of steps in the last stage, stages after it, "
                f"{', '.join(COURSE)}, and nothing else."
            )
        lines = "\n  ".join(changes(then, now))
        raise CheckpointError(f"{path} was written with another recipe:\n  {lines}\n{advice}")

    def _check_length(self, path: Path, state: Mapping[str, object], steps: int) -> None:
        """Raises CheckpointError if the checkpoint is beyond the last step of the recipe."""
        done = cast(int, state["done"])
        if state["stage"] == len(self._recipe.stages) - 1 and done > steps:
            raise CheckpointError(
                f"{path} is at step {done} of its last stage; got a recipe that ends it after {steps}. "
                f"steps={done} ends the run there."
            )


def restored_best(saved: checkpoint.Checkpoint, device: torch.device) -> Best:
    """Returns the best weights that a checkpoint holds."""
    score = cast("list[float] | None", saved.state["best"])
    waited = int(cast(int, saved.state.get("waited", 0)))
    if score is None:
        return Best(waited=waited)
    weights = {key: value.to(device) for key, value in saved.tensors["best"].items()}
    return Best((bool(score[0]), float(score[1])), weights, waited)


def versions() -> dict[str, str]:
    """Returns the versions of the libraries on which a run's results depend."""
    return {"vaezoo": library_version(), "torch": str(torch.__version__), "numpy": np.__version__}


def warn_of_versions(path: Path, state: Mapping[str, object]) -> None:
    """Warns if a checkpoint was written with other versions of the libraries."""
    then = cast(Mapping[str, object], state.get("versions", {"torch": state.get("torch")}))
    other = [f"{name} {then[name]}, this is {now}" for name, now in versions().items() if then.get(name, now) != now]
    if other:
        warn(
            f"{path} was written with {'; '.join(other)}: the run continues, but its last digits may differ from "
            "those of an uninterrupted run."
        )


def short(what: object) -> str:
    """Returns a value as text, `none`, or the first digits of a digest."""
    text = "none" if what is None else str(what)
    return text if len(text) < 64 else f"{text[:12]}…"
