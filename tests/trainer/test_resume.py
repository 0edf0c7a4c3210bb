"""An interrupted run resumes exactly, bit for bit; signals; refused and broken checkpoints."""

import json
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from support.runs import FEW_LABELS, equal, fit, small_data, small_recipe, trainer

from vaezoo.data import Dataset
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
    "vq-vae": [
        {"steps": 12, "batch_size": 8},
        {"steps": 12, "batch_size": 8, "train": ["decoder"], "average": 0.9},
    ],
}
CHANNELS_LAST = small_recipe("vq-vae", channels_last=True, average=0.9, precision="bf16")
DEEPER = {"name": "conv", "channels": [4, 6], "dense": []}  # several channels in and out: layouts differ
RECIPES: dict[str, Recipe] = {
    "vae": small_recipe("vae", average=0.9, schedule="cosine", warmup=5, rate_warmup=8, free_bits=0.1),
    "iwae": small_recipe("iwae", optimizer="adamw", weight_decay=0.1, clip=0.5),
    "cvae": small_recipe("cvae", precision="bf16", batch_size=16),
    "vq-vae": small_recipe("vq-vae", accumulation=2),
    "vq-vae, channels last": replace(CHANNELS_LAST, architecture=replace(CHANNELS_LAST.architecture, backbone=DEEPER)),
    "factor-vae": small_recipe("factor-vae", accumulation=2, average=0.9, learning_rates={"critic": 1e-2}),
    "m2-vae, few labels": small_recipe("m2-vae", average=0.9, data=FEW_LABELS),
    "beta-vae, two stages": small_recipe("beta-vae", stages=STAGES["beta-vae"]),
    "vq-vae, two stages": small_recipe("vq-vae", stages=STAGES["vq-vae"]),
}


def held_out_for(recipe: Recipe) -> Dataset:
    return small_data(recipe, 12, "validation")


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


def stopped(recipe: Recipe, folder: Path, number: int, resume: bool = False) -> str:
    """Trains until Ctrl-C in step `number`, and returns the message."""
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, number, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(InterruptedTrainingError) as caught:
            fit(trainer(recipe, folder, held_out=held_out_for(recipe)), resume)
    return str(caught.value)


def whole(recipe: Recipe, folder: Path, resume: bool = False) -> Run:
    return fit(trainer(recipe, folder, held_out=held_out_for(recipe)), resume)


@pytest.mark.parametrize("name", RECIPES)
def test_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    once = whole(recipe, tmp_path / "once")
    stopped(recipe, tmp_path / "twice", 10)
    stopped(recipe, tmp_path / "twice", 16, resume=True)
    again = whole(recipe, tmp_path / "twice", resume=True)
    assert equal(once.model, again.model) and once.history == again.history
    assert once.model.config == again.model.config
    lines = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("once", "twice")]
    assert lines[0] == lines[1] and [json.loads(line) for line in lines[0].splitlines()] == once.history


@pytest.mark.parametrize("name", ["factor-vae", "vq-vae, two stages"])
def test_checkpoints_after_a_resume_are_equal_byte_for_byte(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    stopped(recipe, tmp_path / "once", 20)
    stopped(recipe, tmp_path / "twice", 11)
    stopped(recipe, tmp_path / "twice", 20, resume=True)
    files = sorted((tmp_path / "once" / "checkpoints" / "step-000000020").iterdir())
    assert {"model", "averages", "optimizers", "totals", "best"} <= {path.stem for path in files}
    for path in files:
        assert path.read_bytes() == (tmp_path / "twice" / "checkpoints" / "step-000000020" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["factor-vae", "vq-vae, two stages"])
def test_no_random_state_outlives_a_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a checkpoint need not hold one; Python's and numpy's are not used at all."""
    once = fit(trainer(RECIPES[name]))
    advance = stage.StageRun.advance

    def disturbed(run: stage.StageRun) -> None:
        torch.manual_seed(random.randrange(2**60))
        np.random.seed(random.randrange(2**30))
        states.append((random.getstate(), np.random.get_state()[1].tolist()))
        advance(run)
        assert states[-1] == (random.getstate(), np.random.get_state()[1].tolist())

    states: list[object] = []
    monkeypatch.setattr(stage.StageRun, "advance", disturbed)
    again = fit(trainer(RECIPES[name]))
    assert equal(once.model, again.model) and once.history == again.history and len(states) == 24


# Signals


def test_the_first_signal_saves_and_the_message_explains_how_to_resume(tmp_path: Path) -> None:
    text = stopped(RECIPES["vae"], tmp_path, 5)
    assert text.startswith("Stopped at step 5 of 24") and "--resume" in text and str(tmp_path) in text


def test_a_step_has_at_most_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = checkpoint.write_folder
    monkeypatch.setattr(checkpoint, "write_folder", lambda path, what: [written.append(path.name), write(path, what)])
    stopped(RECIPES["vae"], tmp_path, 7)
    assert written == ["step-000000007"]


@pytest.mark.parametrize(("second", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_second_signal_ends_at_once(
    second: signal.Signals, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = signal.SIGTERM if second == signal.SIGINT else signal.SIGINT
    at_step(monkeypatch, 5, lambda: [signal.raise_signal(first), signal.raise_signal(second)])
    with pytest.raises(error) as caught:
        fit(trainer(RECIPES["vae"], tmp_path))
    assert error is KeyboardInterrupt or caught.value.code == 143  # type: ignore[attr-defined]
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="a signal that this platform lacks")
def test_sigusr1_saves_and_training_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 23, lambda: signal.raise_signal(signal.SIGUSR1))
    run = whole(RECIPES["vae"], tmp_path / "asked")
    saved = sorted(path.name for path in (tmp_path / "asked" / "checkpoints").iterdir())
    assert saved == ["step-000000023", "step-000000024"]
    assert equal(run.model, whole(RECIPES["vae"], tmp_path / "once").model)


def test_an_interruption_without_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    at_step(monkeypatch, 5, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(InterruptedTrainingError, match="nothing was written"):
        fit(trainer(RECIPES["vae"]))


def test_handlers_of_the_caller_are_restored(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in signal.valid_signals()]
    fit(trainer(RECIPES["vae"]))
    stopped(RECIPES["vae"], tmp_path, 3)
    assert [signal.getsignal(number) for number in signal.valid_signals()] == before


def test_a_thread_trains_without_signals() -> None:
    found: list[Run] = []
    thread = threading.Thread(target=lambda: found.append(fit(trainer(RECIPES["vae"]))))
    thread.start()
    thread.join()
    assert equal(found[0].model, fit(trainer(RECIPES["vae"])).model)


# Refused and broken checkpoints


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    recipe = RECIPES["vae"]
    stopped(recipe, tmp_path, 5)
    with pytest.raises(CheckpointError, match="another recipe") as caught:
        fit(trainer(small_recipe(steps=25, average=0.5), tmp_path, held_out=held_out_for(recipe)), resume=True)
    said = [line.strip() for line in str(caught.value).splitlines()]
    assert {"train.steps: 24 there, 25 now", "train.average: 0.9 there, 0.5 now"} <= set(said)
    assert not any(line.startswith(("train.batch_size", "name", "train.betas")) for line in said)
    with pytest.raises(CheckpointError, match="another data set"):
        other = small_data(recipe, 41)
        fit(trainer(recipe, tmp_path, data=other, held_out=held_out_for(recipe)), resume=True)
    with pytest.raises(CheckpointError, match=r"another held-out set .*none now"):
        fit(trainer(recipe, tmp_path), resume=True)
    with pytest.raises(CheckpointError, match=r"another number type \(torch.float32 there, torch.float64 now\)"):
        chosen = trainer(recipe, tmp_path, held_out=held_out_for(recipe))
        double = Trainer(recipe, chosen.model.double(), chosen.data, held_out=held_out_for(recipe), folder=tmp_path)
        fit(double, resume=True)
    with pytest.raises(CheckpointError, match="holds checkpoints of another run"):
        whole(recipe, tmp_path)
    with pytest.raises(CheckpointError, match="no folder"):
        fit(trainer(recipe), resume=True)


def test_a_broken_newest_checkpoint_is_passed_over(tmp_path: Path) -> None:
    recipe = RECIPES["vae"]
    once = whole(recipe, tmp_path / "once")
    for number, resume in ((5, False), (9, True)):
        stopped(recipe, tmp_path / "twice", number, resume)
    model = tmp_path / "twice" / "checkpoints" / "step-000000009" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"Passed over a broken checkpoint: step-000000009"):
        again = whole(recipe, tmp_path / "twice", resume=True)
    assert equal(once.model, again.model) and once.history == again.history


def test_a_broken_checkpoint_replaces_no_valid_one(tmp_path: Path) -> None:
    for number, resume in ((5, False), (9, True)):
        stopped(RECIPES["vae"], tmp_path, number, resume)
    (tmp_path / "checkpoints" / "step-000000009" / "state.json").write_text("{}")
    with pytest.warns(UserWarning, match="Passed over"):
        stopped(RECIPES["vae"], tmp_path, 8, resume=True)
    assert sorted(path.name[-1] for path in (tmp_path / "checkpoints").iterdir()) == ["7", "8"]


def test_no_valid_checkpoint_is_an_error_not_a_new_start(tmp_path: Path) -> None:
    stopped(RECIPES["vae"], tmp_path, 5)
    (tmp_path / "checkpoints" / "step-000000005" / "state.json").unlink()
    with pytest.raises(CheckpointError, match="None of the 1 checkpoints"):
        whole(RECIPES["vae"], tmp_path, resume=True)


def test_resuming_without_a_checkpoint_starts_over(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("left by a run that was killed early\n")
    run = whole(RECIPES["vae"], tmp_path, resume=True)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == run.history


def test_another_torch_and_missing_lines_give_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped(RECIPES["vae"], tmp_path, 8)
    (tmp_path / "metrics.jsonl").unlink()
    monkeypatch.setattr(torch, "__version__", "0.1")
    with pytest.warns(UserWarning) as caught:
        run = whole(RECIPES["vae"], tmp_path, resume=True)
    texts = " ".join(str(each.message) for each in caught)
    assert "this is 0.1" in texts and "lacks lines" in texts and run.history[0]["step"] > 8


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file"):
        fit(trainer(RECIPES["vae"], tmp_path / "file" / "run"))


def test_a_failed_save_ends_the_run_and_keeps_earlier_checkpoints(tmp_path: Path) -> None:
    stopped(RECIPES["vae"], tmp_path, 5)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "put", full)
        with pytest.raises(CheckpointError, match="No space left"):
            whole(RECIPES["vae"], tmp_path, resume=True)
    assert equal(whole(RECIPES["vae"], tmp_path, resume=True).model, whole(RECIPES["vae"], tmp_path / "other").model)


def test_old_checkpoints_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    fit(trainer(RECIPES["vae"], tmp_path))
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-000000022", "step-000000024"]
