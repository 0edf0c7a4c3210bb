"""Errors, files and exit status of the command `train` on a full disk, on a read-only disk, and after signals."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from support.forks import Forks, at_change, ended, forked

from vaezoo.cli import main
from vaezoo.data import load_dataset
from vaezoo.errors import CorruptWeightsError, UnknownNameError
from vaezoo.registry import create
from vaezoo.storage import checkpoint
from vaezoo.storage.checkpoint import newest, read_folder
from vaezoo.storage.model_folder import save
from vaezoo.trainer import loop
from vaezoo.trainer import stage_run as stage
from vaezoo.workflows.load import load

RECIPE = """
variant = "vae"
[architecture]
latent = 2
backbone = {{ name = "mlp", hidden = [2] }}
likelihood = "continuous-bernoulli"
[data]
name = "digits"
[train]
steps = {steps}
batch_size = 8
"""


def nothing():
    pass


def command(
    folder: Path, steps: int, *more: str, before: Callable[[], object] = nothing, beside: Path | None = None
) -> int:
    """Starts `vaezoo train` in a child, with 20 checkpoints and metrics of each step; returns its process number.

    Its standard error is written to `{folder}.stderr`, or to `{beside}.stderr`.
    """
    load_dataset("digits", "train")  # so that no child has to import the reader
    beside = beside or folder
    recipe = Path(f"{beside}.toml")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(RECIPE.format(steps=steps))

    def work() -> int:
        os.dup2(os.open(f"{beside}.stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        loop.LOG_EVERY, loop.CHECKPOINTS = 1, max(1, steps // 20)
        before()
        return main(["train", str(recipe), "--device", "cpu", "--out", str(folder), *more])

    return forked(work)


def train(
    folder: Path, steps: int, *more: str, before: Callable[[], object] = nothing, beside: Path | None = None
) -> tuple[int, str]:
    """Returns the exit status and the standard error of the command."""
    status = ended(command(folder, steps, *more, before=before, beside=beside))
    return status, Path(f"{beside or folder}.stderr").read_text()


def errors(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("error")]


def left(folder: Path) -> list[object]:
    """Returns the steps of valid checkpoints, and temporary files."""
    paths = checkpoint.listed(folder / "checkpoints")
    rest = [str(path) for path in folder.rglob(".*")]
    return [[read_folder(path).state["done"] for path in paths], rest]


def equal(a: Path, b: Path) -> bool:
    names = ("model.safetensors", "metrics.jsonl", "config.json")
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


# A full disk


def limited(place: str, size: int, steps: int) -> list[object]:
    """Trains with files of at most `size` bytes, then continues without that limit."""
    once, folder = Path(place, "once", "run"), Path(place, "run")
    assert train(once, steps)[0] == 0
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    status, output = train(folder, steps, before=limit)
    found = [status, errors(output), "Traceback" in output, *left(folder)]
    assert train(folder, steps, "--resume")[0] == 0
    return [*found, equal(once, folder)]


@pytest.mark.parametrize(("size", "file", "steps"), [(20_000, "metrics.jsonl", [140, 120]), (4_500, "step-0", [])])
def test_limited_file_size(size: int, file: str, steps: list[int], forks: Forks, quick_path: Path):
    status, output, traceback, saved, rest, same = forks.call(limited, place=str(quick_path), size=size, steps=200)
    assert status == 1 and len(output) == 1 and not traceback
    assert output[0].startswith(f"error [checkpoint]: Could not write {quick_path}/run/") and file in output[0]
    assert " bytes" in output[0] and "File too large" in output[0] and "intact" in output[0]
    assert len(saved) == (2 if file == "metrics.jsonl" else 0) and rest == [] and same


def small_disk(place: str) -> dict[str, object]:
    """Trains on a disk of 512 KiB; extends the run with 16 KiB left, with none left, and on a read-only disk."""
    once, disk, beside = Path(place, "once", "run"), Path(place, "disk"), Path(place, "output")
    folder, filler, found = disk / "run", disk / "filler", dict[str, object]()
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True).returncode:
        return {}
    try:
        assert train(once, 40)[0] == 0 and train(once, 100, "--extend")[0] == 0 and train(folder, 40)[0] == 0
        for name, spare in (("save", 16_384), ("begin", 0)):
            filler.write_bytes(bytes(shutil.disk_usage(disk).free - spare))
            found[name] = [*train(folder, 100, "--extend", beside=beside), *left(folder)]
            filler.unlink()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        found["read-only"] = [*train(folder, 100, "--extend", beside=beside), *left(folder)]
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert train(folder, 100, "--extend")[0] == 0
        found["equal"] = equal(once, folder)
    finally:
        subprocess.run(["umount", disk], check=False)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_full_disk_and_read_only_disk(forks: Forks, tmp_path: Path):
    found = forks.call(small_disk, place=str(tmp_path))
    if not found:
        pytest.skip("no disk can be mounted here")
    assert found.pop("equal")
    texts = {"save": "No space left", "begin": "No space left", "read-only": "Read-only file system"}
    for name, (status, output, saved, rest) in found.items():
        lines = errors(output)
        assert status == 1 and len(lines) == 1 and "Traceback" not in output, (name, output)
        assert str(tmp_path / "disk" / "run") in lines[0] and " bytes)" in lines[0] and texts[name] in lines[0]
        assert saved == [40, 20] and rest == [], name


# Signals


SIGNALS = {"SIGTERM": 143, "SIGINT": 130}


def signalled(place: str, name: str, count: int) -> list[object]:
    """Sends a signal to each of `count` runs; returns their statuses, seconds until the end, and checkpoints."""
    found: list[object] = []
    for number in range(count):
        folder = Path(place, f"{name}-{number}")
        child = command(folder, 100_000)
        wait_for(lambda folder=folder, number=number: len(lines(folder)) > 3 + number)
        began = time.monotonic()
        os.kill(child, getattr(signal, name))
        status = ended(child)
        seconds, saved = time.monotonic() - began, newest(folder / "checkpoints")
        last = saved is not None and saved[1].state["done"] == len(lines(folder))
        found.append([status, seconds, last, *left(folder)])
    return found


def requested(place: str, count: int) -> list[object]:
    """Requests checkpoints of a run, then its end; returns the steps of these checkpoints and the exit status."""
    folder = Path(place, "requested")
    child, found = command(folder, 100_000), list[object]()
    wait_for(lambda: len(lines(folder)) > 3)
    for _ in range(count):
        before = checkpoint.listed(folder / "checkpoints")[:1]
        os.kill(child, signal.SIGUSR1)
        wait_for(lambda before=before: checkpoint.listed(folder / "checkpoints")[:1] != before)
        saved = newest(folder / "checkpoints")
        found.append(saved is not None and not saved[2] and int(saved[1].state["done"]))
    os.kill(child, signal.SIGTERM)
    return [found, ended(child)]


def twice(place: str, first: str, second: str) -> list[object]:
    """Sends two signals during one step, which takes a minute."""
    folder = Path(place, f"{first}-{second}")

    def slow():
        stage.StageRun.advance = lambda run: [Path(f"{folder}.in").touch(), time.sleep(60)]  # type: ignore

    child = command(folder, 1_000, before=slow)
    wait_for(Path(f"{folder}.in").exists)
    began = time.monotonic()
    for name in (first, second):
        os.kill(child, getattr(signal, name))
        time.sleep(0.3)
    return [ended(child), time.monotonic() - began]


def lines(folder: Path) -> list[str]:
    path = folder / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(what: Callable[[], bool]):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "nothing happened for a minute"
        time.sleep(0.002)


def check_signals(forks: Forks, place: Path, count: int):
    for name, expected in SIGNALS.items():
        for status, seconds, saved, steps, rest in forks.call(signalled, place=str(place), name=name, count=count):
            assert (status, saved, rest) == (expected, True, []) and steps and seconds < 10
    steps, status = forks.call(requested, place=str(place), count=count)
    assert len(set(steps)) == count and all(steps) and status == 143


def test_signals_save_a_checkpoint_and_set_the_exit_status(forks: Forks, tmp_path: Path):
    check_signals(forks, tmp_path, 2)


@pytest.mark.deep
def test_twenty_signals(forks: Forks, tmp_path: Path):
    check_signals(forks, tmp_path, 20)


@pytest.mark.parametrize(("first", "second", "status"), [("SIGINT", "SIGINT", 130), ("SIGTERM", "SIGTERM", 143)])
def test_second_signal_ends_the_run_at_once(first: str, second: str, status: int, forks: Forks, tmp_path: Path):
    found, seconds = forks.call(twice, place=str(tmp_path), first=first, second=second)
    assert found == status and seconds < 10


# A crash while the model folder is written


FIGURES = {"examples": 1, "split": "test", "data": "digits"}


@pytest.mark.parametrize("before", [False, True], ids=["new", "over another"])
def test_crash_in_save_leaves_no_mixture_of_two_models(before: bool, quick_path: Path):
    """The config has the hash of the weights, so that between the two writes the folder holds no valid model."""
    models = [create("vae", shape=(1, 4, 4), latent=2, backbone={"name": "mlp", "hidden": [3]}) for _ in range(2)]
    seen = set()
    for limit in range(60):
        folder = quick_path / str(limit)
        if before:
            save(models[0], folder, metrics=FIGURES)

        def work(limit: int = limit, folder: Path = folder):
            at_change(limit, lambda: os._exit(9))
            save(models[1], folder, metrics=FIGURES)

        status = ended(forked(work))
        try:
            read = load(f"{folder}/").state_dict()
            seen.add(next(n for n, each in enumerate(models) if same(read, each.state_dict())))
        except (CorruptWeightsError, UnknownNameError):
            seen.add(None)
        save(models[1], folder)
        assert same(load(f"{folder}/").state_dict(), models[1].state_dict())
        if status == 0:
            break
        assert status == 9
    assert status == 0 and limit > 12 and seen == ({0, 1, None} if before else {1, None})


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())
