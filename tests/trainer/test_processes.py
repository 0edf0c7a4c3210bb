"""Two processes (gloo) equal one with twice the accumulation, with whole and with sharded parameters.

The variants include coupled examples (beta-tc-vae), two players (factor-vae, aae), statistics that are learned without
gradients (vq-vae, geco-vae), and batches with and without labels (m2-vae).
"""

import ast
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
import torch
from msgspec.structs import replace
from safetensors import safe_open
from support.runs import RANKS_RECIPES, SHARDED_RECIPES, fit, small_data, small_recipe, trainer

from vaezoo.errors import CheckpointError, ConfigError, RecipeError
from vaezoo.storage.checkpoint import read_folder
from vaezoo.trainer import build_model, parallel
from vaezoo.trainer.parallel import check_shardable
from vaezoo.trainer.processes import Processes

TESTS = Path(__file__).parents[1]
DAILY = ("vae", "vq-vae")
OTHERS = tuple(name for name in RANKS_RECIPES if name not in DAILY)
SHARDED = tuple(SHARDED_RECIPES)
RECIPES = RANKS_RECIPES | SHARDED_RECIPES
PATHS = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}


def run_two(folder: Path, names: Iterable[str]) -> Path:
    """Trains recipes in two processes, and returns the folder of the results."""
    command = [sys.executable, str(TESTS / "support" / "ranks_worker.py"), str(folder), *names]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    environment = PATHS | address | {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test"}
    start = partial(subprocess.Popen, command, cwd=folder, stdout=PIPE, stderr=STDOUT, text=True)
    ranks = [start(env=environment | {"RANK": str(rank)}) for rank in range(2)]
    for rank in ranks:
        said, _ = rank.communicate(timeout=500)
        assert rank.returncode == 0 and "all checks passed" in said, said[-3000:]
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    return cache(lambda names: run_two(tmp_path_factory.mktemp("ranks"), names))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in DAILY else pytest.mark.full) for name in RECIPES]
)
def test_two_processes_equal_twice_the_accumulation(name: str, two: Callable[[tuple[str, ...]], Path]) -> None:
    recipe, folder = RECIPES[name], two(next(names for names in (DAILY, OTHERS, SHARDED) if name in names))
    stage = replace(recipe.stages[0], accumulation=2 * recipe.stages[0].accumulation)
    alone = replace(recipe, stages=(stage,))
    run = fit(trainer(alone, held_out=small_data(alone, 12, "validation")))
    with safe_open(folder / f"{name}.safetensors", "pt") as file:  # type: ignore[no-untyped-call]  # it has no types
        history = ast.literal_eval(file.metadata()["history"])
        for key, own in run.model.state_dict().items():
            torch.testing.assert_close(file.get_tensor(key), own, rtol=1e-5, atol=1e-5 * float(own.abs().max()))
    assert len(history) == len(run.history)
    for theirs, ours in zip(history, run.history, strict=True):
        assert theirs.keys() == ours.keys()
        assert all(math.isclose(theirs[key], value, rel_tol=1e-5) for key, value in ours.items() if value is not None)


def test_another_number_of_processes_needs_any_size(two: Callable[[tuple[str, ...]], Path]) -> None:
    recipe, folder = RANKS_RECIPES["vq-vae"], two(DAILY) / "stopped"
    with pytest.raises(CheckpointError, match=r"2 processes, this run has 1.*any_size"):
        fit(trainer(recipe, folder), resume=True)
    chosen = trainer(recipe, folder, any_size=True)
    assert math.isfinite(fit(chosen, resume=True).history[-1]["distortion"] or math.nan)


@pytest.mark.full
def test_a_sharded_checkpoint_holds_whole_tensors_that_one_process_resumes(
    two: Callable[[tuple[str, ...]], Path], tmp_path: Path
) -> None:
    recipe = SHARDED_RECIPES["vq-vae-fsdp"]
    stage = recipe.stages[0]
    fit(trainer(replace(recipe, stages=(replace(stage, steps=41, accumulation=2),)), tmp_path / "alone"))
    theirs, ours = (
        read_folder(folder / "checkpoints" / "step-000000041")
        for folder in (two(SHARDED) / "stopped", tmp_path / "alone")
    )
    for group in ("model", "optimizers"):
        assert theirs.tensors[group].keys() == ours.tensors[group].keys()
        for key, own in ours.tensors[group].items():
            torch.testing.assert_close(theirs.tensors[group][key], own, rtol=1e-5, atol=1e-5 * float(own.abs().max()))
    shutil.copytree(two(SHARDED) / "stopped", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000000050")
    run = fit(trainer(recipe, tmp_path / "run", any_size=True), resume=True)
    assert run.history[-1]["step"] == 50 and math.isfinite(run.history[-1]["distortion"] or math.nan)


def test_what_cannot_be_sharded_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"train.parallel: 'fsdp' does not support compile and channels_last"):
        small_recipe(parallel="fsdp", compile=True, channels_last=True)
    with pytest.raises(RecipeError, match=r"train.parallel: .*'ddp'"):
        small_recipe(parallel="dpp")
    model = build_model(recipe := small_recipe("sq-vae"), small_data(recipe))
    check_shardable(build_model(recipe := small_recipe(), small_data(recipe)))
    with pytest.raises(
        ConfigError, match=r"parameters without dimensions \(.*log_variance.*Use train.parallel = 'ddp'"
    ):
        check_shardable(model)


def test_layers_that_are_gathered_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "SMALLEST_LAYER", 8)
    recipe = SHARDED_RECIPES["kl-autoencoder-fsdp"]
    model = build_model(recipe, small_data(recipe))
    layers = list(parallel.layers_of(model))
    inner = [each for layer in layers for each in layer.modules()]
    assert len(inner) == len(set(inner))  # no layer inside another
    assert not {*inner} & {*model.objective.modules(), model.decoder.last_layer()}
    assert {type(layer).__name__ for layer in layers} >= {"Block", "Halve", "Double"}
    for variant in ("rae-l2", "rae-gp", "hamiltonian-vae"):
        recipe = small_recipe(variant)
        assert not list(parallel.layers_of(build_model(recipe, small_data(recipe))))


def test_alone_nothing_is_exchanged() -> None:
    ranks = Processes.current()
    values = torch.arange(3.0)
    ranks.average([values])
    assert (ranks.size, ranks.first, ranks.broadcast_text("a", torch.device("cpu"))) == (1, True, "a")
    assert ranks.gather([{"x": values}]) == [{"x": values}]
    assert torch.equal(values, torch.arange(3.0))


@pytest.mark.full
def test_torchrun_trains_a_recipe_once(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "vaezoo", "train", "vae-digits", "train.steps=60", "train.batch_size=16", "--out", "run"]
    done = subprocess.run([*launch, *command], cwd=tmp_path, env=PATHS, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Global batch: 32 examples" in done.stderr
    assert done.stdout.count("Trained vae-digits") == 1
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"config.json", "model.safetensors", "metrics.jsonl", "README.md"} <= names


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the children of a process are read from /proc")
def test_a_killed_worker_ends_the_run_and_resuming_it_changes_no_byte(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "vaezoo", "train", "vae-digits", "train.steps=400", "train.batch_size=16", "--out"]
    start = partial(subprocess.Popen, cwd=tmp_path, env=PATHS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert start([*command, "once/run"]).wait(240) == 0
    with start([*command, "run"]) as started:
        end = time.monotonic() + 120
        while not [*(tmp_path / "run" / "checkpoints").glob("step-*")]:
            assert started.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        os.kill(int(children[-1]), signal.SIGKILL)
        assert started.wait(120) != 0
    assert not (tmp_path / "run" / "config.json").exists()
    assert start([*command, "run", "--resume"]).wait(240) == 0
    for name in ("model.safetensors", "config.json", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "once" / "run" / name).read_bytes()
