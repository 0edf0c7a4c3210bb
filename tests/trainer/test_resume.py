"""An interrupted run resumes exactly, bit for bit; signals; refused and broken checkpoints."""

import json
import random
import signal
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from support.runs import FEW_LABELS, equal, fit, small_data, small_recipe, trainer

from vaezoo.errors import CheckpointError, InterruptedTrainingError
from vaezoo.recipe import Recipe
from vaezoo.storage import checkpoint
from vaezoo.trainer import Run, Trainer, loop
from vaezoo.trainer import stage_run as stage

STAGES: dict[str, list[dict[str, object]]] = {
    "beta-vae": [
        {"steps": 12, "batch_size": 8, "average": 0.9, "rate_warmup": 6, "options": {"beta": 2.0}},
        {"steps": 14, "batch_size": 4, "train": ["decoder"], "learning_rate": 0.01},
    ],
    "vq-vae": [{"steps": 12, "batch_size": 8}, {"steps": 12, "batch_size": 8, "train": ["decoder"], "average": 0.9}],
}
CHANNELS_LAST = small_recipe("vq-vae", channels_last=True, average=0.9, precision="bf16")
GRIDS = small_recipe("kl-autoencoder", networks={"resnet": {"name": "resnet", "channels": [4, 4]}})
DEEPER = {"name": "conv", "channels": [4, 6], "dense": []}  # several channels in and out: layouts differ
RECIPES: dict[str, Recipe] = {
    "vae": small_recipe("vae", average=0.9, schedule="cosine", warmup=5, rate_warmup=8, free_bits=0.1),
    "iwae": small_recipe("iwae", optimizer="adamw", weight_decay=0.1, clip=0.5),
    "cvae": small_recipe("cvae", precision="bf16", batch_size=16),
    "vq-vae": small_recipe("vq-vae", accumulation=2),
    "vq-vae, channels last": replace(CHANNELS_LAST, architecture=replace(CHANNELS_LAST.architecture, backbone=DEEPER)),
    "factor-vae": small_recipe("factor-vae", accumulation=2, average=0.9, learning_rates={"critic": 1e-2}),
    "kl-autoencoder, transformed": replace(
        GRIDS, options={"equivariance": 1.0, "noise": 0.1}, architecture=replace(GRIDS.architecture, latent=[2, 2, 2])
    ),
    "m2-vae, few labels": small_recipe("m2-vae", average=0.9, data=FEW_LABELS),
    "beta-vae, two stages": small_recipe("beta-vae", stages=STAGES["beta-vae"]),
    "vq-vae, two stages": small_recipe("vq-vae", stages=STAGES["vq-vae"]),
}


@pytest.fixture(autouse=True)
def frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes all periodic actions happen in a small run."""
    monkeypatch.setattr(loop, "LOG_EVERY", 7)
    monkeypatch.setattr(loop, "VALIDATIONS", 4)
    monkeypatch.setattr(stage, "SWEEP_EVERY", 5)


def at_step(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[], None]) -> None:
    """Calls `action` in step `number` of all."""
    advance = stage.StageRun.advance

    def hooked(run: stage.StageRun) -> None:
        if run.number + 1 == number:
            action()
        advance(run)

    monkeypatch.setattr(stage.StageRun, "advance", hooked)


def whole(recipe: Recipe, folder: Path, resume: bool = False) -> Run:
    return fit(trainer(recipe, folder, held_out=small_data(recipe, 12, "validation")), resume)


def stopped(recipe: Recipe, folder: Path, *numbers: int, resume: bool = False) -> str:
    """Trains until Ctrl-C in each of these steps, resuming in between, and returns the last message."""
    for number in numbers:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(InterruptedTrainingError) as caught:
            at_step(patch, number, lambda: signal.raise_signal(signal.SIGINT))
            whole(recipe, folder, resume or number != numbers[0])
    return str(caught.value)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Returns the uninterrupted run of a recipe, trained at its first use."""
    return cache(lambda name: whole(RECIPES[name], tmp_path_factory.mktemp("once")))


def contents(folder: Path | None) -> dict[str, bytes]:
    assert folder is not None
    files = [path for path in folder.rglob("*.*") if path.is_file() and path.name != "timing.jsonl"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", RECIPES)
def test_resumed_equals_uninterrupted(name: str, tmp_path: Path, once: Callable[[str], Run]) -> None:
    stopped(RECIPES[name], tmp_path, 10, 16)
    again, expected = whole(RECIPES[name], tmp_path, resume=True), once(name)
    assert equal(expected.model, again.model) and expected.history == again.history
    assert expected.model.config == again.model.config
    assert contents(tmp_path) == contents(expected.folder), "metrics, recipe and checkpoints"


@pytest.mark.parametrize("name", ["factor-vae", "vq-vae, two stages"])
def test_no_random_state_outlives_a_step(
    name: str, tmp_path: Path, once: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a checkpoint need not hold one; Python's and numpy's are not used at all."""
    expected, states, advance = once(name), list[object](), stage.StageRun.advance

    def disturbed(run: stage.StageRun) -> None:
        torch.manual_seed(random.randrange(2**60))
        np.random.seed(random.randrange(2**30))
        states.append((random.getstate(), np.random.get_state()[1].tolist()))
        advance(run)
        assert states[-1] == (random.getstate(), np.random.get_state()[1].tolist())

    monkeypatch.setattr(stage.StageRun, "advance", disturbed)
    again = whole(RECIPES[name], tmp_path)
    assert equal(expected.model, again.model) and expected.history == again.history and len(states) == 24


def test_the_first_signal_writes_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, write = list[str](), checkpoint.write_folder
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    monkeypatch.setattr(checkpoint, "write_folder", lambda path, what: [written.append(path.name), write(path, what)])
    text = stopped(RECIPES["vae"], tmp_path, 7)
    assert text.startswith("Stopped at step 7 of 24") and "--resume" in text and str(tmp_path) in text
    assert written == ["step-000000007"], "also due at this step"
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before
    at_step(monkeypatch, 5, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(InterruptedTrainingError, match="nothing was written"):
        fit(trainer(RECIPES["vae"]))


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)])
def test_a_second_signal_ends(signals: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 5, lambda: [signal.raise_signal(number) for number in signals])
    with pytest.raises(KeyboardInterrupt if signals[1] == signal.SIGINT else SystemExit) as caught:
        fit(trainer(RECIPES["vae"], tmp_path))
    assert getattr(caught.value, "code", 143) == 143
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="a signal that this platform lacks")
def test_sigusr1_saves(tmp_path: Path, once: Callable[[str], Run], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = once("vae")
    at_step(monkeypatch, 23, lambda: signal.raise_signal(signal.SIGUSR1))
    run = whole(RECIPES["vae"], tmp_path)
    saved = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert saved == ["step-000000023", "step-000000024"] and equal(run.model, expected.model)


def test_a_thread_trains_without_signals(tmp_path: Path, once: Callable[[str], Run]) -> None:
    found: list[Run] = []
    thread = threading.Thread(target=lambda: found.append(whole(RECIPES["vae"], tmp_path)))
    thread.start()
    thread.join()
    assert equal(found[0].model, once("vae").model)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    recipe = RECIPES["vae"]
    held_out = small_data(recipe, 12, "validation")
    stopped(recipe, tmp_path, 5)
    with pytest.raises(CheckpointError, match="another recipe") as caught:
        whole(small_recipe(steps=25, average=0.5), tmp_path, resume=True)
    said = [line.strip() for line in str(caught.value).splitlines()]
    assert {"train.steps: 24 there, 25 now", "train.average: 0.9 there, 0.5 now"} <= set(said)
    assert not any(line.startswith(("train.batch_size", "name", "train.betas")) for line in said)
    with pytest.raises(CheckpointError, match="another data set"):
        fit(trainer(recipe, tmp_path, data=small_data(recipe, 41), held_out=held_out), resume=True)
    with pytest.raises(CheckpointError, match=r"another held-out set .*none now"):
        fit(trainer(recipe, tmp_path), resume=True)
    with pytest.raises(CheckpointError, match=r"another number type \(torch.float32 there, torch.float64 now\)"):
        model, data = trainer(recipe).model.double(), small_data(recipe)
        fit(Trainer(recipe, model, data, held_out=held_out, folder=tmp_path), resume=True)
    with pytest.raises(CheckpointError, match="holds checkpoints of another run"):
        whole(recipe, tmp_path)
    with pytest.raises(CheckpointError, match="no folder"):
        fit(trainer(recipe), resume=True)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl"):
        whole(recipe, tmp_path / "metrics.jsonl" / "run")


def test_a_broken_newest_checkpoint_is_passed_over(tmp_path: Path, once: Callable[[str], Run]) -> None:
    recipe, expected = RECIPES["vae"], once("vae")
    stopped(recipe, tmp_path, 5, 9)
    model = tmp_path / "checkpoints" / "step-000000009" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"Passed over a broken checkpoint: step-000000009"):
        stopped(recipe, tmp_path, 8, resume=True)
    assert sorted(path.name[-1] for path in (tmp_path / "checkpoints").iterdir()) == ["7", "8"]
    again = whole(recipe, tmp_path, resume=True)
    assert equal(expected.model, again.model) and expected.history == again.history
    for path in (tmp_path / "checkpoints").glob("*/state.json"):
        path.unlink()
    with pytest.raises(CheckpointError, match="None of the 2 checkpoints"):
        whole(recipe, tmp_path, resume=True)


def test_other_lines_of_metrics_and_another_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("left by a run that was killed early\n")
    stopped(RECIPES["vae"], tmp_path, 8, resume=True)
    assert max(json.loads(line)["step"] for line in metrics.read_text().splitlines()) in (7, 8)
    metrics.unlink()
    monkeypatch.setattr(torch, "__version__", "0.1")
    with pytest.warns(UserWarning) as caught:
        run = whole(RECIPES["vae"], tmp_path, resume=True)
    texts = " ".join(str(each.message) for each in caught)
    assert "this is 0.1" in texts and "lacks lines" in texts and run.history[0]["step"] > 8


def test_a_failed_save_ends_the_run_and_keeps_earlier_checkpoints(tmp_path: Path, once: Callable[[str], Run]) -> None:
    stopped(RECIPES["vae"], tmp_path, 5)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(CheckpointError, match="No space left"):
        patch.setattr(checkpoint, "put", Mock(side_effect=OSError(28, "No space left on device")))
        whole(RECIPES["vae"], tmp_path, resume=True)
    assert equal(whole(RECIPES["vae"], tmp_path, resume=True).model, once("vae").model)
