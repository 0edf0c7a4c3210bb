"""Trackers: the progress bar, the three services, and that no tracker can change or end a run."""

import io
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
from support.runs import equal, small_data, small_recipe

from vaezoo import cli, train
from vaezoo.errors import ConfigError, MissingExtraError, UnknownNameError
from vaezoo.trainer import Run
from vaezoo.trainer.trackers import Bar, TensorBoard, Tracker, Trackers, WandB, chosen_trackers, trackers

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
    with pytest.raises(MissingExtraError, match=rf'pip install "vaezoo\[{name}\]"'):
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


def test_the_command_keeps_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    called = Mock(return_value=SimpleNamespace(history=[], folder=None))
    monkeypatch.setattr("vaezoo.workflows.train.train", called)
    assert cli.main(["train", "vae-mnist", "--tracker", "tensorboard", "steps=3", "--tracker", "wandb"]) == 0
    assert cli.main(["train", "vae-mnist"]) == 0
    assert [each.args[1:] for each in called.mock_calls] == [("steps=3",), ()]
    assert [each.kwargs["trackers"] for each in called.mock_calls] == [["bar", "tensorboard", "wandb"], ["bar"]]
