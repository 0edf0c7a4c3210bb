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
from vaezoo.errors import UnknownNameError
from vaezoo.registry import create
from vaezoo.storage import checkpoint
from vaezoo.storage.checkpoint import newest, read_folder
from vaezoo.storage.model_folder import read_metrics, save
from vaezoo.trainer import loop
from vaezoo.workflows.compare import compare
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


@pytest.mark.parametrize(
    ("size", "file"), [pytest.param(20_000, "metrics.jsonl", marks=pytest.mark.full), (4_500, "step-0")]
)
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


def made(count):
    return [create("vae", shape=(1, 4, 4), latent=2, backbone={"name": "mlp", "hidden": [3]}) for _ in range(count)]


@pytest.mark.parametrize(
    ("before", "shard_size"),
    [
        pytest.param(True, 10**6, id="over another"),
        pytest.param(True, 200, id="over several files", marks=pytest.mark.full),
        pytest.param(False, 10**6, id="new", marks=pytest.mark.full),
        pytest.param(False, 200, id="several files", marks=pytest.mark.full),
    ],
)
@pytest.mark.filterwarnings("ignore:.*metrics.json")
def test_crash_in_save_leaves_the_old_or_the_new_model(before, shard_size, quick_path):
    """SIGKILL before each change of the file system and half-way through each write."""
    models, seen = made(2), set()
    figures = [FIGURES | {"examples": number} for number in range(2)]
    names = set(os.listdir(save(models[1], quick_path / "fresh", metrics=figures[1], shard_size=shard_size)))
    for limit in range(200):
        folder = quick_path / str(limit)
        if before:
            save(models[0], folder, metrics=figures[0], shard_size=shard_size)

        def work(limit=limit, folder=folder):
            at_change(limit, lambda: os.kill(os.getpid(), signal.SIGKILL))
            save(models[1], folder, metrics=figures[1], shard_size=shard_size)

        status = ended(forked(work))
        if before or (folder / "config.json").exists():
            read = load(f"{folder}/")
            found = next(n for n, each in enumerate(models) if equal(read, each))
            seen.add(found)
            metrics = read_metrics(folder)
            assert metrics is None or metrics["examples"] == found
        else:
            seen.add(None)
            with pytest.raises(UnknownNameError):
                load(f"{folder}/")
        save(models[1], folder, metrics=figures[1], shard_size=shard_size)
        assert equal(load(f"{folder}/"), models[1])
        assert {name for name in os.listdir(folder) if not name.startswith(".")} == names
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0 and limit > 12 and seen == ({0, 1} if before else {1, None})


@pytest.mark.parametrize("shard_size", [10**6, 200], ids=["one file", "several files"])
def test_reader_finds_a_whole_model_while_another_process_replaces_it(shard_size, quick_path):
    models, folder = made(2), quick_path / "model"
    save(models[0], folder, shard_size=shard_size)

    def work():
        for number in range(1, 41):
            save(models[number % 2], folder, shard_size=shard_size if number % 4 else 10**6)

    child, read = forked(work), 0
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        found = load(f"{folder}/")
        assert any(equal(found, each) for each in models)
        read += 1
    assert read > 5


def test_comparison_recovers_from_a_kill_between_weights_and_config(quick_path):
    """A run of `compare --out` has weights without a config, as after a kill; the next call makes the same model."""
    options = {"data": "digits", "steps": 3, "samples": 2, "limit": 5, "device": "cpu", "out": quick_path}
    (row,) = compare(["vae"], **options)
    (config,) = quick_path.glob("*/config.json")
    once = config.with_name("model.safetensors").read_bytes()
    config.unlink()
    config.with_name("model.safetensors").write_bytes(once[:-1])
    with pytest.warns(UserWarning, match="holds no checkpoint"):
        (again,) = compare(["vae"], **options)
    assert config.with_name("model.safetensors").read_bytes() == once
    assert again.report == row.report
