"""Trackers: the progress bar, the three services, and that no tracker can change or end a run."""

import io
import logging
import random
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock, call

import numpy as np
import pytest
import torch
from rich.console import Console
from support.runs import equal, small_data, small_recipe, trainer

from vaezoo import cli, train
from vaezoo.errors import ConfigError, MissingExtraError, UnknownNameError
from vaezoo.trainer import Run
from vaezoo.trainer.trackers import Bar, TensorBoard, Tracker, Trackers, WandB, chosen_trackers, trackers
from vaezoo.trainer.trackers.bar import duration

pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")
MODULES = {"tensorboard": "torch.utils.tensorboard", "trackio": "trackio", "wandb": "wandb"}


@pytest.fixture
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mock:
    """In place of the three packages; every function returns it, and the one that a test names raises."""
    package = Mock()
    for name in ("SummaryWriter", "init"):
        getattr(package, name).return_value = package
    package.Settings = SimpleNamespace
    if hasattr(request, "param"):
        getattr(package, request.param).side_effect = OSError("no network")
    for module in MODULES.values():
        monkeypatch.setitem(sys.modules, module, package)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return package


def small_run(names: list[str | Tracker], out: Path | None = None, stages: list[object] | None = None) -> Run:
    recipe = small_recipe("beta-vae" if stages else "vae", stages=stages)
    return train(recipe, data=small_data(recipe), out=out, trackers=names, device="cpu")


def test_trackers_are_found_by_name() -> None:
    assert trackers.names() == ["bar", *MODULES]
    mine = Bar()
    first, second = chosen_trackers(["bar", mine])
    assert isinstance(first, Bar) and second is mine
    assert [type(each) for each in chosen_trackers(None)] == [Bar] and chosen_trackers(()) == []
    with pytest.raises(UnknownNameError, match=r"Unknown tracker 'tensorbord'\. Did you mean 'tensorboard'"):
        chosen_trackers(["bar", "tensorbord"])


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_package_is_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULES[name], None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=rf"Install it: pip install {name}$"):
        small_run([name], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_writes_scalars(fake: Mock, tmp_path: Path) -> None:
    run = small_run(["tensorboard"], tmp_path / "run")
    fake.SummaryWriter.assert_called_once_with(str(tmp_path / "run" / "tensorboard"), purge_step=24)
    fake.close.assert_called_once_with()
    scalars = {each.args[0]: each.args[1:] for each in fake.add_scalar.mock_calls}
    assert scalars["distortion"] == (run.history[-1]["distortion"], 24) and "step" not in scalars
    assert {"bound", "rate", "images_per_second"} <= scalars.keys()
    with pytest.raises(ConfigError, match="out=None"):
        small_run(["tensorboard"])
    small_run([TensorBoard(tmp_path / "events")])
    assert fake.SummaryWriter.call_args.args == (str(tmp_path / "events"),)


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_run_services_receive_figures(name: str, fake: Mock, tmp_path: Path) -> None:
    run = small_run([name], tmp_path / "run")
    fake.init.assert_called_once()
    begun = fake.init.call_args.kwargs
    assert (begun["project"], begun["name"], begun["group"]) == ("vaezoo", "vae", "run")
    assert begun["config"]["architecture"]["latent"] == 3
    fake.log.assert_called_once()
    assert fake.log.call_args.kwargs == {"step": 24}
    assert fake.log.call_args.args[0]["distortion"] == run.history[-1]["distortion"]
    assert fake.mock_calls[-1] == call.finish() and fake.finish.call_count == 1


def test_a_service_is_opened_once_for_all_stages(fake: Mock) -> None:
    small_run([WandB("mine")], stages=[{"steps": 3, "batch_size": 8}, {"steps": 2, "batch_size": 8}])
    assert [each.kwargs["project"] for each in fake.init.mock_calls] == ["mine"]
    assert [each.kwargs["step"] for each in fake.log.mock_calls] == [3, 5] and fake.finish.call_count == 1


FAILURES = [("init", "trackio"), ("log", "wandb"), ("SummaryWriter", "tensorboard"), ("add_scalar", "tensorboard")]


@pytest.mark.parametrize(("fake", "name"), FAILURES, indirect=["fake"])
def test_a_service_that_fails_warns_once(fake: Mock, name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True, action="always") as caught:
        run = small_run([name], tmp_path / "run", stages=[{"steps": 2, "batch_size": 8}] * 3)
    (text,) = [str(each.message) for each in caught if "Training goes on" in str(each.message)]
    assert "OSError: no network" in text and len(run.history) == 3


class Broken:
    """Draws from every random state, and raises at every call."""

    def start(self, name: str, steps: int, done: int) -> None:
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        raise OSError("no network")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        torch.rand(7)
        metrics.clear()  # type: ignore[attr-defined]
        raise KeyError(step)

    def close(self) -> None:
        raise RuntimeError


def test_trackers_do_not_change_a_run(fake: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaezoo.trainer.loop.LOG_EVERY", 5)
    alone = small_run([], tmp_path / "a")
    with pytest.warns(UserWarning, match="Training goes on"):
        tracked = small_run(["tensorboard", "wandb", "trackio", Broken()], tmp_path / "b")
    assert equal(alone.model, tracked.model) and alone.history == tracked.history
    for file in ("model.safetensors", "metrics.jsonl", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_exception_is_reported_once_and_ctrl_c_is_not_caught() -> None:
    working = Mock(spec=Tracker)
    working.close.side_effect = KeyboardInterrupt
    both = Trackers([Broken(), working])
    with pytest.warns(UserWarning, match=r"Broken\.start failed: OSError: no network\. Training goes on"):
        both.notify("start", "x", 7, 0)
    with pytest.warns(UserWarning, match=r"Broken\.log failed"):
        both.notify("log", 1, {})
    with warnings.catch_warnings(action="error"):
        both.notify("log", 2, {})
    assert working.mock_calls == [call.start("x", 7, 0), call.log(1, {}), call.log(2, {})]
    with pytest.raises(KeyboardInterrupt):
        Trackers([working]).notify("close")


@pytest.mark.parametrize("terminal", [False, True])
def test_the_bar_is_shown_on_a_terminal_only(terminal: bool) -> None:
    file = io.StringIO()
    bar = Bar(Console(file=file, force_terminal=terminal, width=120))
    bar.log(0, {})
    bar.start("vae", 10, 2)
    bar.log(5, {"distortion": 81.25, "rate": 25.0, "images_per_second": 12345.6})
    bar.log(7, {"validation_rate": 1.0})
    bar.close()
    shown = ("vae", "7/10", "D 81.2  R 25.0 nats  12,346 images/s")
    assert all(text in file.getvalue() for text in shown) if terminal else not file.getvalue()


def test_a_log_has_a_line_after_a_second_and_then_every_thirty(capsys: pytest.CaptureFixture[str]) -> None:
    now, file = [100.0], io.StringIO()
    bar = Bar(Console(file=file, width=40), clock=lambda: now[0])
    bar.start("a [bold] name", 2_000, 1_000)
    for done in range(1_001, 1_701):  # 10 steps a second: 70 seconds
        now[0] += 0.1
        bar.advance(done)
        if done == 1_200:
            bar.log(done, {"distortion": 81.25, "rate": 25.0, "images_per_second": 1280.0})
    bar.close()
    lines = file.getvalue().splitlines()
    steps = [line.removeprefix("a [bold] name: step ").partition(" of 2,000 (")[0] for line in lines]
    assert [int(step.replace(",", "")) for step in steps] == pytest.approx([1_010, 1_310, 1_610, 1_700], abs=4)
    assert lines[0].endswith("10.0 steps/s, 1 min 39 s left") and "(51 %)" in lines[0]
    assert lines[1].endswith(" %), D 81.2  R 25.0 nats, 10.0 steps/s, 1,280 images/s, 1 min 09 s left")
    assert capsys.readouterr() == ("", "")
    assert [duration(seconds) for seconds in (0.4, 59.6, 3599, 7800)] == [
        "0 s",
        "1 min 00 s",
        "59 min 59 s",
        "2 h 10 min",
    ]


def test_a_notebook_has_one_display_that_is_updated_from_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, now = list[str](), [0.0]
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))
    module = SimpleNamespace(display=lambda data, raw, display_id: shown.append(data["text/plain"]) or handle)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    bar = Bar(Console(file=io.StringIO(), force_jupyter=True), clock=lambda: now[0])
    bar.start("vae", 100, 0)
    for done in (1, 2, 3):
        now[0] += 0.15
        bar.advance(done)
    bar.log(60, {"distortion": 1.0, "rate": 2.0})
    bar.close()
    counts = [text.partition(" of ")[0].rpartition(" ")[2] for text in shown]
    assert counts == ["0", "1", "3", "60", "60"]
    assert shown[-1].startswith(f"vae {'━' * 18}{'╌' * 12} 60 of 100 (60 %), D 1.0  R 2.0 nats")


@pytest.mark.parametrize("form", ["log", "terminal"])
def test_each_of_several_stages_is_named(form: str) -> None:
    now, file = [0.0], io.StringIO()
    bar = Bar(Console(file=file, width=120, force_terminal=form == "terminal"), clock=lambda: now[0])
    both = Trackers([bar])
    for number in (1, 2):
        both.stage(number, 2)
        both.notify("start", "vq", 200, 0)
        for done in (67, 200):
            now[0] += 20
            both.advance(done)
    both.notify("close")
    shown = file.getvalue()
    if form == "log":
        starts = [line.partition(" (")[0] for line in shown.splitlines()]
        stages = [f"vq: stage {number} of 2, step {done} of 200" for number in (1, 2) for done in (67, 200)]
        assert starts == stages
    else:
        assert "vq, stage 1 of 2" in shown and "vq, stage 2 of 2" in shown
    single = Bar(Console(file=(file := io.StringIO())), clock=lambda: now[0])
    single.stage(1, 1)
    single.start("vq", 2, 0)
    now[0] += 2
    single.advance(1)
    assert file.getvalue() == "vq: step 1 of 2 (50 %)\n"


def test_a_run_sends_the_stages_to_trackers_that_receive_them() -> None:
    seen = list[tuple[int, int]]()
    tracker = SimpleNamespace(
        start=lambda *_: None, log=lambda *_: None, close=lambda: None, stage=lambda *each: seen.append(each)
    )
    trainer(small_recipe(stages=[{"steps": 2, "batch_size": 8}] * 2), trackers=(tracker,)).fit()
    assert seen == [(1, 2), (2, 2)]


def test_the_remaining_time_leaves_out_the_slow_first_step() -> None:
    now = [0.0]
    bar = Bar(Console(file=io.StringIO()), clock=lambda: now[0])
    bar.start("vae", 104, 0)
    for done, seconds in ((1, 50.0), (2, 0.5), (3, 0.5)):
        now[0] += seconds
        bar.advance(done)
        assert bar.remaining is None
    now[0] += 0.5
    bar.advance(4)
    assert bar.remaining == pytest.approx(100 * 0.5)


def test_no_message_is_glued_to_the_bar() -> None:
    file = io.StringIO()
    bar = Bar(Console(file=file, force_terminal=True, width=100))
    bar.start("vae", 10, 0)
    record = logging.LogRecord("vaezoo", logging.INFO, "", 0, "a message", None, None)
    cli.StandardError().emit(record)
    bar.advance(1)
    bar.close()
    before, _, after = file.getvalue().partition("a message")
    assert before.endswith(("\n", "\x1b[2K")) and after.startswith("\n"), "it has a line of its own"


def test_trackers_may_receive_every_step() -> None:
    seen, recipe = list[int](), small_recipe(steps=7)

    class Counter:
        def start(self, name: str, steps: int, done: int) -> None: ...
        def log(self, step: int, metrics: object) -> None: ...
        def close(self) -> None: ...

        def advance(self, done: int) -> None:
            seen.append(done)
            if done > 3:
                raise ValueError("broken")

    with pytest.warns(UserWarning, match=r"Tracker Counter\.advance failed: ValueError: broken") as caught:
        trainer(recipe, trackers=(Counter(),)).fit()
    assert seen == [1, 2, 3, 4, 5, 6, 7] and sum("Counter" in str(each.message) for each in caught) == 1


def test_the_command_keeps_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    called = Mock(return_value=SimpleNamespace(summary="", folder=None))
    monkeypatch.setattr("vaezoo.workflows.train.train", called)
    assert cli.main(["train", "vae-mnist", "--tracker", "tensorboard", "steps=3", "--tracker", "wandb"]) == 0
    assert cli.main(["train", "vae-mnist"]) == 0
    assert [each.args[1:] for each in called.mock_calls] == [("steps=3",), ()]
    assert [each.kwargs["trackers"] for each in called.mock_calls] == [["bar", "tensorboard", "wandb"], ["bar"]]
