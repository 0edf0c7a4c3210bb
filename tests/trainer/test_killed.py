"""A run that is killed at any time, any number of times, has the files of an uninterrupted run, byte for byte."""

import mmap
import os
import random
import select
import signal
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from support.forks import Forks, at_change, ended, forked
from support.runs import small_recipe

import vaezoo
from vaezoo.storage import checkpoint
from vaezoo.trainer import loop
from vaezoo.trainer import stage_run as stage

INTERVAL = {"vae": 5, "factor-vae": 3}  # steps between two checkpoints
CHANGES = 90  # of the file system in a run without kills, roughly
DATA = {"validation": 10}
CASES = {
    "vae": small_recipe("vae", data=DATA, steps=40, average=0.9, schedule="cosine", rate_warmup=30),
    "factor-vae": small_recipe(
        "factor-vae",
        data=DATA,
        stages=[
            {"steps": 20, "batch_size": 8, "average": 0.9, "accumulation": 2},
            {"steps": 20, "batch_size": 8, "average": 0.8, "optimizer": "adamw", "clip": 1.0},
        ],
    ),
}


def train(case: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    # Checkpoints fall between two lines of metrics, and hold totals.
    loop.LOG_EVERY, loop.CHECKPOINTS, loop.VALIDATIONS, stage.SWEEP_EVERY = 3, 8, 7, 7
    images = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    vaezoo.train(CASES[case], data=images, out=folder, trackers=(), resume=True, device="cpu")


class Watched:
    """State that a child process shares: its steps, and whether a checkpoint was written."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 16)
        self.wait, self.ready = os.pipe()

    @property
    def steps(self) -> int:
        return int.from_bytes(self.memory[:8], "little")

    def train(self, case: str, folder: Path, change: int | None) -> None:
        """Trains in the child, which waits to be killed at change number `change` of the file system."""
        advance, write = stage.StageRun.advance, checkpoint.write_folder

        def advanced(run: stage.StageRun) -> None:
            advance(run)
            self.memory[:8] = run.number.to_bytes(8, "little")

        def written(*args: object) -> None:
            write(*args)  # type: ignore[arg-type]
            self.memory[8] = 1

        stage.StageRun.advance, checkpoint.write_folder = advanced, written  # type: ignore[method-assign]
        if change is not None:
            at_change(change, self.wait_to_be_killed)
        train(case, folder)

    def wait_to_be_killed(self) -> None:
        os.write(self.ready, b"!")
        time.sleep(600)


def attempt(case: str, folder: Path, watched: Watched, after: float | None, change: int | None) -> int:
    """Trains in a child that is killed after some seconds, or inside a change of the file system, or never."""
    watched.memory[:8] = bytes(8)
    child = forked(partial(watched.train, case, folder, change))
    ending = os.pidfd_open(child)
    ready = select.select([ending, *([watched.wait] if change is not None else [])], [], [], after)[0]
    if ending not in ready and (change is not None or after is not None):
        os.kill(child, signal.SIGKILL)
        if change is not None:
            os.read(watched.wait, 1)
    os.close(ending)
    return ended(child)


def contents(folder: Path) -> dict[str, bytes]:
    """Returns every file except timing and old checkpoints that a kill left."""
    old = checkpoint.listed(folder / "checkpoints")[2:]
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "timing.jsonl"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.parent not in old}


def kill(case: str, kills: int, place: str) -> dict[str, object]:
    """Trains run after run until there were `kills` kills; returns counts of what happened."""
    generator, watched = random.Random(kills), Watched()
    once, began = Path(place, "once", "run"), time.perf_counter()
    assert attempt(case, once, watched, None, None) == 0
    seconds = time.perf_counter() - began
    expected = contents(once)
    found = {"kills": 0, "inside": 0, "runs": 0, "invalid": 0, "different": [], "lost": 0, "resumed": 0}
    while found["kills"] < kills:
        found["runs"] += 1
        folder, status = Path(place, str(found["runs"]), "run"), -9
        watched.memory[8] = 0
        while status == -9:
            inside = bool(generator.getrandbits(1))
            after = None if inside else generator.uniform(0.0, seconds)
            change = generator.randrange(CHANGES) if inside else None
            enough = found["kills"] == kills
            status = attempt(case, folder, watched, None if enough else after, None if enough else change)
            if status == -9:
                found["kills"] += 1
                found["inside"] += inside
                newest = checkpoint.newest(folder / "checkpoints")
                found["invalid"] += bool(watched.memory[8]) and (newest is None or bool(newest[2]))
                if watched.steps:
                    at = checkpoint.step_of(newest[0]) if newest else 0
                    found["lost"] = max(found["lost"], watched.steps - at)
                    found["resumed"] += at > 0
        assert status == 0
        files = contents(folder)
        found["different"] += [name for name in expected.keys() | files.keys() if expected.get(name) != files.get(name)]
    return found | {"files": sorted(expected)}


def check(call: Callable[..., dict[str, object]], case: str, kills: int, place: Path) -> None:
    found = call(kill, case=case, kills=kills, place=str(place))
    files = found.pop("files")
    print(case, found)
    assert {"metrics.jsonl", "model.safetensors", "config.json", "recipe.json"} <= set(files)
    for name in ("model", "averages", "optimizers", "best"):
        assert f"checkpoints/step-000000040/{name}.safetensors" in files
    assert found["kills"] >= kills and found["inside"] > 0
    assert found["different"] == [] and found["invalid"] == 0
    assert 0 < found["lost"] <= INTERVAL[case] and found["resumed"] > 0


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="processes are watched as Linux allows")
@pytest.mark.parametrize("case", [pytest.param("vae", marks=pytest.mark.full), "factor-vae"])
def test_killed_ten_times(case: str, forks: Forks, quick_path: Path) -> None:
    check(forks.call, case, 10, quick_path)


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", CASES)
def test_killed_many_times(case: str, forks: Forks, tmp_path: Path) -> None:
    check(forks.call, case, int(os.environ.get("VAEZOO_KILLS", "200")) // 2, tmp_path)
