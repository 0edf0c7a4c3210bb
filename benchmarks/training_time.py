"""Estimates the time of the training of pretrained models from a few steps of each stage of their recipes.

    OMP_NUM_THREADS=1 python benchmarks/training_time.py [vae-mnist iwae-mnist …] [--steps 20] [--write]

By default of all bundled models whose runs recorded no times. The time is that of the processor, so that other programs
on the machine matter little; start, validation and checkpoints are left out, as in recorded times. --write stores the
estimates with the models' figures, in their cards and in the index.
"""

import argparse
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

import vaezoo
from vaezoo.recipe import Recipe, Stage
from vaezoo.storage.model_folder import read_metrics, write_metrics
from vaezoo.trainer.batches import stage_steps
from vaezoo.workflows.bundle import reindex
from vaezoo.workflows.training_cost import machine_of
from vaezoo.zoo.index import PACKAGE_FOLDER, bundled_models, info

WARM = 5  # steps before the timed ones


@dataclass
class Timer:
    """A tracker that keeps the processor's time after each step."""

    at: list[float] = field(default_factory=list)

    def start(self, name: str, steps: int, done: int) -> None:
        """Does nothing."""

    def advance(self, done: int) -> None:
        self.at.append(time.process_time())

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def seconds_per_step(recipe: Recipe, number: int, steps: int) -> float:
    """Returns the processor's time of a step of a stage, seconds."""
    tables = recipe.as_dict()
    stages = tables.pop("stage", None) or [tables.pop("train")]
    timer = Timer()
    with warnings.catch_warnings(action="ignore"):  # of unused latents, after so few steps
        short = {**stages[number], "steps": WARM + steps, "epochs": 0}
        vaezoo.train({**tables, "stage": [short]}, out=None, device="cpu", trackers=[timer])
    return (timer.at[-1] - timer.at[WARM - 1]) / steps


def cost(name: str, steps: int) -> dict[str, object]:
    """Returns `steps`, `images`, `seconds` and `machine` of a training, and the timed steps, `estimated_from`."""
    recipe = vaezoo.read_recipe(name)
    examples = info(name)["architecture"]["examples"]

    def count(stage: Stage) -> int:
        return stage_steps(stage, examples, 1)

    seconds = sum(count(stage) * seconds_per_step(recipe, number, steps) for number, stage in enumerate(recipe.stages))
    return {
        "steps": sum(map(count, recipe.stages)),
        "images": sum(count(stage) * stage.batch_size * stage.accumulation for stage in recipe.stages),
        "seconds": round(seconds),
        "machine": machine_of(torch.device("cpu")),
        "estimated_from": steps,
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    names = options.names or [name for name in bundled_models() if "training" not in info(name)["metrics"]]
    for name in names:
        found = cost(name, options.steps)
        print(f"{name}: {found}", flush=True)
        if options.write:
            write_metrics(PACKAGE_FOLDER / name, {**(read_metrics(PACKAGE_FOLDER / name) or {}), "training": found})
    if options.write:
        reindex()


if __name__ == "__main__":
    main()
