"""Checkpoints of a run: what is in them, and whether one belongs to the run that is to go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from vaezoo import checkpoint
from vaezoo.data import Dataset
from vaezoo.errors import CheckpointError, warn
from vaezoo.model import VAE
from vaezoo.recipe import Recipe
from vaezoo.trainer.ranks import Ranks

__all__ = ["Best", "Checkpoints"]

KEEP = 2  # how many checkpoints stay on disk


@dataclass
class Best:
    """The best weights so far: highest bound on the held-out images or, where there is no bound, least distortion."""

    #: (whether there is a bound, the bound or else the negative distortion): larger is better
    score: tuple[bool, float] | None = None
    weights: Mapping[str, Tensor] | None = None

    def offer(self, bound: float, distortion: float, model: VAE) -> None:
        """Keeps a copy of the model's weights if its figures are the best so far; NaN never is."""
        score = (True, bound) if math.isfinite(bound) else (False, -distortion)
        if not math.isnan(score[1]) and (self.score is None or score > self.score):
            self.score = score
            self.weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}


class Checkpoints:
    """The checkpoints in the folder of one run.

    Args:
        folder: of the run.
        recipe, data, held_out: what the run is of; a checkpoint of anything else is refused.
        ranks: the processes of the run; one written by another number of them is refused unless `any_size`.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        data: Dataset,
        held_out: Dataset | None,
        ranks: Ranks | None = None,
        any_size: bool = False,
    ) -> None:
        self.place = folder / "checkpoints"
        self._size, self._any_size = (ranks or Ranks()).size, any_size
        self._identity = {
            "recipe": recipe.digest,
            "data set": data.digest,
            "held-out set": None if held_out is None else held_out.digest,
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
                "torch": torch.__version__,
                "processes": self._size,
            },
        )
        checkpoint.write_folder(self.place / f"step-{step:09d}", content)
        checkpoint.prune(self.place, KEEP)

    def refuse_if_any(self) -> None:
        """Raises CheckpointError where a run has left checkpoints: a new one would be mistaken for it."""
        if any(self.place.glob("step-*")):
            raise CheckpointError(
                f"{self.place} holds checkpoints of another run. Go on with it (resume=True, --resume), or choose "
                "another folder."
            )

    def newest(self) -> checkpoint.Checkpoint | None:
        """Returns the newest valid checkpoint, or None where there is none at all; warns of each broken one.

        Raises:
            CheckpointError: none is valid, or it is of another recipe or data set.
        """
        found = checkpoint.newest(self.place)
        if found is None:
            return None
        path, saved, passed_over = found
        for text in passed_over:
            warn(text)
        written = cast(Mapping[str, object], saved.state.get("of", {}))
        for what, now in self._identity.items():
            then = written.get(what)
            if then != now:
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
        if saved.state.get("torch") != torch.__version__:
            warn(
                f"{path} was written by torch {saved.state.get('torch')}, this is {torch.__version__}: the run goes "
                "on, but may end with other digits than an uninterrupted one."
            )
        return saved


def restored_best(saved: checkpoint.Checkpoint, device: torch.device) -> Best:
    """Returns the best weights that a checkpoint holds."""
    score = cast("list[float] | None", saved.state["best"])
    if score is None:
        return Best()
    weights = {key: value.to(device) for key, value in saved.tensors["best"].items()}
    return Best((bool(score[0]), float(score[1])), weights)


def short(digest: object) -> str:
    """Returns the first digits of a digest, or `none`."""
    return f"{str(digest)[:12]}…" if digest is not None else "none"
