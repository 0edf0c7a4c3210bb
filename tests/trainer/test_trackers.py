"""Trackers: the progress bar, the three services, and that no tracker can change or end a run."""

import io
import random
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

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


class Fake:
    """In place of the three packages; records all calls."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.calls = fails, list[tuple[str, tuple[object, ...], dict[str, object]]]()

    def __getattr__(self, name: str) -> object:
        def call(*values: object, **named: object) -> object:
            self.calls.append((name, values, named))
            if name == self.fails:
                raise OSError("no network")
            return SimpleNamespace(**named) if name == "Settings" else self

        return call

    def calls_of(self, name: str) -> list[tuple[tuple[object, ...], dict[str, object]]]:
        return [(values, named) for called, values, named in self.calls if called == name]


@pytest.fixture
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fake:
    package = Fake(getattr(request, "param", ""))
    for module in MODULES.values():
        monkeypatch.setitem(sys.modules, module, package)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return package


def small_run(names: list[str | Tracker], out: Path | None = None, **named: object) -> Run:
    recipe = small_recipe()
    return train(recipe, data=small_data(recipe), out=out, trackers=names, device="cpu", **named)


def test_trackers_are_found_by_name() -> None:
    assert trackers.names() == ["bar", *MODULES]
    mine = Bar()
    first, second = chosen_trackers(["bar", mine])
    assert isinstance(first, Bar) and second is mine
    assert [type(each) for each in chosen_trackers(None)] == [Bar] and chosen_trackers(()) == []
    with pytest.raises(UnknownNameError, match=r"Unknown tracker 'tensorbord'\. Did you mean 'tensorboard'"):
        chosen_trackers(["bar", "tensorbord"])


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_package_is_an_error_before_the_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, MODULES[name], None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=rf'pip install "vaezoo\[{name}\]"'):
        small_run([name], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_writes_scalars(fake: Fake, tmp_path: Path) -> None:
    run = small_run(["tensorboard"], tmp_path / "run")
    assert fake.calls_of("SummaryWriter") == [((str(tmp_path / "run" / "tensorboard"),), {"purge_step": 24})]
    scalars = {values[0]: values[1:] for values, _ in fake.calls_of("add_scalar")}
    assert scalars["distortion"] == (run.history[-1]["distortion"], 24) and "step" not in scalars
    assert {"bound", "rate", "images_per_second"} <= scalars.keys() and len(fake.calls_of("close")) == 1
    with pytest.raises(ConfigError, match="out=None"):
        small_run(["tensorboard"])
    small_run([TensorBoard(tmp_path / "events")])
    assert fake.calls_of("SummaryWriter")[-1][0] == (str(tmp_path / "events"),)


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_run_services_receive_figures(name: str, fake: Fake, tmp_path: Path) -> None:
    run = small_run([name], tmp_path / "run")
    ((_, begun),) = fake.calls_of("init")
    assert (begun["project"], begun["name"], begun["group"]) == ("vaezoo", "vae", "run")
    assert begun["config"]["architecture"]["latent"] == 3  # type: ignore[index]
    ((values, named),) = fake.calls_of("log")
    assert named == {"step": 24} and values[0]["distortion"] == run.history[-1]["distortion"]  # type: ignore[index]
    assert [called for called, *_ in fake.calls][-1] == "finish" and len(fake.calls_of("finish")) == 1


def test_a_service_is_opened_once_for_all_stages(fake: Fake) -> None:
    stages: list[dict[str, object]] = [{"steps": 3, "batch_size": 8}, {"steps": 2, "batch_size": 8}]
    recipe = small_recipe("beta-vae", stages=stages)
    train(recipe, data=small_data(recipe), out=None, trackers=[WandB("mine")], device="cpu")
    assert [named["project"] for _, named in fake.calls_of("init")] == ["mine"]
    assert [named["step"] for _, named in fake.calls_of("log")] == [3, 5] and len(fake.calls_of("finish")) == 1


@pytest.mark.parametrize(
    ("fake", "name"),
    [("init", "trackio"), ("init", "wandb"), ("log", "wandb"), ("SummaryWriter", "tensorboard"),
     ("add_scalar", "tensorboard")],
    indirect=["fake"],
)  # fmt: skip
def test_a_service_that_fails_warns_once(fake: Fake, name: str, tmp_path: Path) -> None:
    recipe = small_recipe("beta-vae", stages=[{"steps": 2, "batch_size": 8}] * 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = train(recipe, data=small_data(recipe), out=tmp_path / "run", trackers=[name], device="cpu")
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


def test_trackers_do_not_change_a_run(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaezoo.trainer.loop.LOG_EVERY", 5)
    alone = small_run([], tmp_path / "a")
    with pytest.warns(UserWarning, match="Training goes on"):
        tracked = small_run(["tensorboard", "wandb", "trackio", Broken()], tmp_path / "b")
    assert equal(alone.model, tracked.model) and alone.history == tracked.history
    for file in ("model.safetensors", "metrics.jsonl", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_an_exception_is_reported_once_and_ctrl_c_is_not_caught() -> None:
    calls: list[int] = []

    class Working(Broken):
        def start(self, name: str, steps: int, done: int) -> None:
            calls.append(steps)

        def log(self, step: int, metrics: Mapping[str, float]) -> None:
            calls.append(step)

        def close(self) -> None:
            raise KeyboardInterrupt

    both = Trackers([Broken(), Working()])
    with pytest.warns(UserWarning, match=r"Broken\.start failed: OSError: no network\. Training goes on"):
        both.notify("start", "x", 7, 0)
    with pytest.warns(UserWarning, match=r"Broken\.log failed"):
        both.notify("log", 1, {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both.notify("log", 2, {})
    assert calls == [7, 1, 2]
    with pytest.raises(KeyboardInterrupt):
        Trackers([Working()]).notify("close")


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
    calls = []

    def record(recipe: str, *overrides: str, trackers: list[str], **named: object) -> object:
        calls.append((overrides, trackers))
        return SimpleNamespace(history=[], folder=None)

    monkeypatch.setattr("vaezoo.workflows.train.train", record)
    assert cli.main(["train", "vae-mnist", "--tracker", "tensorboard", "steps=3", "--tracker", "wandb"]) == 0
    assert cli.main(["train", "vae-mnist"]) == 0
    assert calls == [(("steps=3",), ["bar", "tensorboard", "wandb"]), ((), ["bar"])]
