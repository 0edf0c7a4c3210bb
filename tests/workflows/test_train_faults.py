"""Errors, files and exit status of the command `train` on a full disk, on a read-only disk, and after signals."""

import filecmp
import os
import resource
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from support.forks import at_change, ended, forked
from support.runs import equal

from vaezoo.cli import main
from vaezoo.data import load_dataset
from vaezoo.errors import CorruptWeightsError, UnknownNameError
from vaezoo.registry import create
from vaezoo.storage import checkpoint
from vaezoo.storage.checkpoint import newest, read_folder
from vaezoo.storage.model_folder import save
from vaezoo.trainer import loop
from vaezoo.workflows.load import load

FILES = ["model.safetensors", "metrics.jsonl", "config.json"]
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


def command(folder, steps, *more, before=lambda: None, beside=None):
    """Starts `vaezoo train` in a child, with 20 checkpoints and metrics of each step; returns its process number.

    Its standard error is written to `{folder}.stderr`, or to `{beside}.stderr`.
    """
    load_dataset("digits", "train")  # so that no child has to import the reader
    beside = beside or folder
    recipe = Path(f"{beside}.toml")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(RECIPE.format(steps=steps))

    def work():
        os.dup2(os.open(f"{beside}.stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        loop.LOG_EVERY, loop.CHECKPOINTS = 1, max(1, steps // 20)
        before()
        return main(["train", str(recipe), "--device", "cpu", "--out", str(folder), *more])

    return forked(work)


def train(folder, steps, *more, beside=None, **options):
    """Returns the exit status of the command, the errors on its standard error, and whether that has a traceback."""
    status = ended(command(folder, steps, *more, beside=beside, **options))
    output = Path(f"{beside or folder}.stderr").read_text()
    return status, [line for line in output.splitlines() if line.startswith("error")], "Traceback" in output


def left(folder):
    """Returns the steps of valid checkpoints, and temporary files."""
    paths = checkpoint.listed(folder / "checkpoints")
    rest = [str(path) for path in folder.rglob(".*")]
    return [[read_folder(path).state["done"] for path in paths], rest]


def limited(place, size, steps):
    """Trains with files of at most `size` bytes, then continues without that limit."""
    once, folder = Path(place, "once", "run"), Path(place, "run")
    assert train(once, steps)[0] == 0
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    found = [*train(folder, steps, before=limit), *left(folder)]
    assert train(folder, steps, "--resume")[0] == 0
    return [*found, filecmp.cmpfiles(once, folder, FILES, shallow=False)[0] == FILES]


@pytest.mark.parametrize(("size", "file"), [(20_000, "metrics.jsonl"), (4_500, "step-0")])
def test_limited_file_size(size, file, forks, quick_path):
    status, output, traceback, saved, rest, same = forks.call(limited, place=str(quick_path), size=size, steps=200)
    assert status == 1 and len(output) == 1 and not traceback
    assert output[0].startswith(f"error [checkpoint]: Could not write {quick_path}/run/") and file in output[0]
    assert " bytes" in output[0] and "File too large" in output[0] and "intact" in output[0]
    assert len(saved) == (2 if file == "metrics.jsonl" else 0) and rest == [] and same


def small_disk(place):
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
        found["equal"] = filecmp.cmpfiles(once, folder, FILES, shallow=False)[0] == FILES
    finally:
        subprocess.run(["umount", disk], check=False)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_full_disk_and_read_only_disk(forks, tmp_path):
    found = forks.call(small_disk, place=str(tmp_path))
    if not found:
        pytest.skip("no disk can be mounted here")
    assert found.pop("equal")
    texts = {"save": "No space left", "begin": "No space left", "read-only": "Read-only file system"}
    for name, (status, lines, traceback, saved, rest) in found.items():
        assert status == 1 and len(lines) == 1 and not traceback, (name, lines)
        assert str(tmp_path / "disk" / "run") in lines[0] and " bytes)" in lines[0] and texts[name] in lines[0]
        assert saved == [40, 20] and rest == [], name


def signalled(place, name, count):
    """Sends a signal to each of `count` runs; returns their statuses, seconds until the end, and checkpoints."""
    found = []
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


def lines(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def wait_for(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, "nothing happened for a minute"
        time.sleep(0.002)


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.deep)])
@pytest.mark.parametrize(("name", "expected"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_signals_save_a_checkpoint_and_set_the_exit_status(name, expected, count, forks, tmp_path):
    for status, seconds, saved, steps, rest in forks.call(signalled, place=str(tmp_path), name=name, count=count):
        assert (status, saved, rest) == (expected, True, []) and steps and seconds < 10


FIGURES = {"examples": 1, "split": "test", "data": "digits"}


@pytest.mark.parametrize("before", [False, True], ids=["new", "over another"])
def test_crash_in_save_leaves_no_mixture_of_two_models(before, quick_path):
    """The config has the hash of the weights, so that between the two writes the folder holds no valid model."""
    models = [create("vae", shape=(1, 4, 4), latent=2, backbone={"name": "mlp", "hidden": [3]}) for _ in range(2)]
    seen = set()
    for limit in range(60):
        folder = quick_path / str(limit)
        if before:
            save(models[0], folder, metrics=FIGURES)

        def work(limit=limit, folder=folder):
            at_change(limit, lambda: os._exit(9))
            save(models[1], folder, metrics=FIGURES)

        status = ended(forked(work))
        try:
            read = load(f"{folder}/")
            seen.add(next(n for n, each in enumerate(models) if equal(read, each)))
        except (CorruptWeightsError, UnknownNameError):
            seen.add(None)
        save(models[1], folder)
        assert equal(load(f"{folder}/"), models[1])
        if status == 0:
            break
        assert status == 9
    assert status == 0 and limit > 12 and seen == ({0, 1, None} if before else {1, None})
