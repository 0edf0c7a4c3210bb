"""Checkpoints of a run: what is in them, and whether one belongs to the run that is to go on.

They hold model, averages, optimizers, running totals and the best weights so far, but no state of a random generator:
none outlives a step. Order of images, drawn pixels and noise are functions of (seed, step, micro-batch), since
`feed.reseed` seeds torch's generator before each micro-batch; `after_step` and what parts start from draw on from
there, held-out images are measured under a seed of their own, and no part of the loop draws from `random` or from
numpy's global state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from vaezoo.core import VAE
from vaezoo.data import Dataset
from vaezoo.errors import CheckpointError, warn
from vaezoo.recipe import Recipe, adds_stages, changes, differ_in_length_only
from vaezoo.storage import checkpoint
from vaezoo.storage.documents import canonical
from vaezoo.storage.files import library_version, write_file
from vaezoo.trainer.batches import stage_steps
from vaezoo.trainer.processes import Processes

__all__ = ["Best", "Checkpoints"]

KEEP = 2  # how many checkpoints stay on disk


@dataclass
class Best:
    """The best weights so far: highest bound on the held-out images or, where there is no bound, least distortion."""

    #: (whether there is a bound, the bound or else the negative distortion): larger is better
    score: tuple[bool, float] | None = None
    weights: Mapping[str, Tensor] | None = None

    def offer(self, bound: float, distortion: float, model: VAE) -> None:
        """Keeps a copy of the model's weights if its figures are the best so far; NaN or infinity never is."""
        score = (True, bound) if math.isfinite(bound) else (False, -distortion)
        if math.isfinite(score[1]) and (self.score is None or score > self.score):
            self.score = score
            self.weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}


class Checkpoints:
    """The checkpoints in the folder of one run.

    Args:
        folder: of the run.
        recipe, model, data, held_out: what the run is of; a checkpoint of anything else is refused.
        ranks: the processes of the run; one written by another number of them is refused unless `any_size`.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        model: VAE,
        data: Dataset,
        held_out: Dataset | None,
        ranks: Processes | None = None,
        any_size: bool = False,
    ) -> None:
        self.folder, self.place = folder, folder / "checkpoints"
        self._size, self._any_size = (ranks or Processes()).size, any_size
        #: how often and from where the run was made longer than its recipe said at first
        self.extensions: list[dict[str, object]] = []
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
            CheckpointError: disk full, no permission; the checkpoints of before are intact.
        """
        content = checkpoint.Checkpoint(
            tensors={name: group for name, group in (*groups.items(), ("best", best.weights or {})) if group},
            state={
                **state,
                "best": best.score,
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
        """Writes the recipe beside the checkpoints, all defaults written out, and removes what a crash left there."""
        checkpoint.remove_stale_files(self.folder)
        checkpoint.remove_stale_files(self.place)
        write_file(self.folder / "recipe.json", canonical(self._recipe.as_dict()).encode())

    def refuse_if_any(self) -> None:
        """Raises CheckpointError where a run has left checkpoints: a new one would be mistaken for it."""
        if any(self.place.glob("step-*")):
            raise CheckpointError(
                f"{self.place} holds checkpoints of another run. Go on with it (resume=True, --resume), or choose "
                "another folder."
            )

    def newest(self, extend: bool = False) -> checkpoint.Checkpoint | None:
        """Returns the newest valid checkpoint, or None where there is none at all; warns of each broken one.

        Args:
            extend: accept one of a recipe with a shorter last stage, which is remembered, or without the last stages.

        Raises:
            CheckpointError: none is valid, or it is of another recipe, data set or number type.
        """
        found = checkpoint.newest(self.place)
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
                    f"{path} was written by another {what} ({short(then)} there, {short(now)} now). Go on with the "
                    "same one, or train into a new folder."
                )
        size = saved.state.get("processes", 1)
        if size != self._size and not self._any_size:
            raise CheckpointError(
                f"{path} was written by {size} processes, this run has {self._size}, so that an epoch and a step are "
                "not the same. Start as many, or ask for it: --any-size (in Python: any_size=True)."
            )
        warn_of_versions(path, saved.state)
        return saved

    def _accept_recipe(self, path: Path, state: Mapping[str, object], extend: bool) -> None:
        """Remembers a longer last stage and allows further ones, where asked for; raises for any other recipe."""
        then, now = Recipe.from_settings(state.get("recipe")), self._recipe
        advice = "Go on with the same one, or train into a new folder."
        if then is None:
            raise CheckpointError(f"{path} was written by another recipe, which this vaezoo cannot show. {advice}")
        was, steps = (stage_steps(recipe.stages[-1], self._examples, self._size) for recipe in (then, now))
        longer, further = differ_in_length_only(then, now) and steps > was, adds_stages(then, now)
        if longer and extend:
            self.extensions.append({"step": checkpoint.step_of(path), "from": was, "to": steps, "recipe": then.digest})
        if extend and (longer or further):
            return
        if longer or further:
            advice += " To make this run longer, add --extend to --resume (in Python: extend=True)."
        elif extend:
            advice += " --extend allows more steps in the last stage, or stages after it, and nothing else."
        lines = "\n  ".join(changes(then, now))
        raise CheckpointError(f"{path} was written by another recipe:\n  {lines}\n{advice}")


def restored_best(saved: checkpoint.Checkpoint, device: torch.device) -> Best:
    """Returns the best weights that a checkpoint holds."""
    score = cast("list[float] | None", saved.state["best"])
    if score is None:
        return Best()
    weights = {key: value.to(device) for key, value in saved.tensors["best"].items()}
    return Best((bool(score[0]), float(score[1])), weights)


def versions() -> dict[str, str]:
    """Returns the versions of the libraries that a run's digits depend on."""
    return {"vaezoo": library_version(), "torch": str(torch.__version__), "numpy": np.__version__}


def warn_of_versions(path: Path, state: Mapping[str, object]) -> None:
    """Warns where a checkpoint is of other versions than these."""
    then = cast(Mapping[str, object], state.get("versions", {"torch": state.get("torch")}))
    other = [f"{name} {then[name]}, this is {now}" for name, now in versions().items() if then.get(name, now) != now]
    if other:
        warn(
            f"{path} was written by {'; '.join(other)}: the run goes on, but may end with other digits than an "
            "uninterrupted one."
        )


def short(what: object) -> str:
    """Returns a text, the first digits of a digest, or `none`."""
    text = "none" if what is None else str(what)
    return text if len(text) < 64 else f"{text[:12]}…"
