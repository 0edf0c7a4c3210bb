"""Trackers by name: what the three services are told, and that none of them can change a run."""

import random
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.runs import equal, small_data, small_recipe

from vaezoo import cli, train
from vaezoo.errors import ConfigError, MissingExtraError, UnknownNameError
from vaezoo.trainer import Run
from vaezoo.trainer.trackers import Bar, TensorBoard, Tracker, WandB, chosen_trackers

pytestmark = pytest.mark.filterwarnings("ignore:.*latents are active")
MODULES = {"tensorboard": "torch.utils.tensorboard", "trackio": "trackio", "wandb": "wandb"}


class Fake:
    """Stands for the three packages; writes down how it is called."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.calls = fails, list[tuple[str, tuple[object, ...], dict[str, object]]]()

    def __getattr__(self, name: str) -> object:
        def call(*values: object, **named: object) -> object:
            self.calls.append((name, values, named))
            if name == self.fails:
                raise OSError("no network")
            return SimpleNamespace(**named) if name == "Settings" else self

        return call

    def told(self, name: str) -> list[tuple[tuple[object, ...], dict[str, object]]]:
        return [(values, named) for called, values, named in self.calls if called == name]


@pytest.fixture
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fake:
    stands = Fake(getattr(request, "param", ""))
    for module in MODULES.values():
        monkeypatch.setitem(sys.modules, module, stands)
    return stands


def small_run(trackers: list[str | Tracker], out: Path | None = None, **named: object) -> Run:
    recipe = small_recipe()
    return train(recipe, data=small_data(recipe), out=out, trackers=trackers, device="cpu", **named)


def test_names_and_objects() -> None:
    mine = Bar()
    first, second = chosen_trackers(["bar", mine])
    assert isinstance(first, Bar) and second is mine
    assert [type(each) for each in chosen_trackers(None)] == [Bar] and chosen_trackers(()) == []
    with pytest.raises(UnknownNameError, match=r"Unknown tracker 'tensorbord'\. Did you mean 'tensorboard'"):
        chosen_trackers(["bar", "tensorbord"])


@pytest.mark.parametrize("name", MODULES)
def test_a_missing_package_is_named_before_anything_happens(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, MODULES[name], None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=rf'pip install "vaezoo\[{name}\]"'):
        small_run([name], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_tensorboard_writes_scalars_into_the_runs_folder(fake: Fake, tmp_path: Path) -> None:
    run = small_run(["tensorboard"], tmp_path / "run")
    assert fake.told("SummaryWriter") == [((str(tmp_path / "run" / "tensorboard"),), {"purge_step": 24})]
    scalars = {values[0]: values[1:] for values, _ in fake.told("add_scalar")}
    last = run.history[-1]
    assert scalars["distortion"] == (last["distortion"], 24) and "step" not in scalars
    assert {"bound", "rate", "images_per_second"} <= scalars.keys() and len(fake.told("close")) == 1


def test_tensorboard_needs_a_folder(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="out=None"):
        small_run(["tensorboard"])
    small_run([TensorBoard(tmp_path / "events")])
    assert fake.told("SummaryWriter")[0][0] == (str(tmp_path / "events"),)


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_runs_are_begun_fed_and_ended(name: str, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    run = small_run([name], tmp_path / "run")
    ((_, begun),) = fake.told("init")
    assert (begun["project"], begun["name"], begun["group"]) == ("vaezoo", "vae", "run")
    assert begun["config"]["architecture"]["latent"] == 3  # type: ignore[index]
    ((values, named),) = fake.told("log")
    assert named == {"step": 24} and values[0]["distortion"] == run.history[-1]["distortion"]  # type: ignore[index]
    assert [called for called, *_ in fake.calls][-1] == "finish" and len(fake.told("finish")) == 1


def test_a_service_is_opened_once_for_all_stages(fake: Fake) -> None:
    stages: list[dict[str, object]] = [{"steps": 3, "batch_size": 8}, {"steps": 2, "batch_size": 8}]
    recipe = small_recipe("beta-vae", stages=stages)
    train(recipe, data=small_data(recipe), out=None, trackers=[WandB("mine")], device="cpu")
    assert [named["project"] for _, named in fake.told("init")] == ["mine"]
    assert [named["step"] for _, named in fake.told("log")] == [3, 5] and len(fake.told("finish")) == 1


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("fake", ["init", "SummaryWriter", "log", "add_scalar"], indirect=True)
def test_a_service_that_fails_is_warned_of_once(fake: Fake, name: str, tmp_path: Path) -> None:
    concerned = (fake.fails in ("SummaryWriter", "add_scalar")) == (name == "tensorboard")
    recipe = small_recipe("beta-vae", stages=[{"steps": 2, "batch_size": 8}] * 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = train(recipe, data=small_data(recipe), out=tmp_path / "run", trackers=[name], device="cpu")
    said = [str(each.message) for each in caught if "Training goes on" in str(each.message)]
    assert len(said) == concerned and all("OSError: no network" in each for each in said)
    assert len(run.history) == 3


class Meddling:
    """Draws from every random state, and throws at every call."""

    def start(self, name: str, steps: int, done: int) -> None:
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        raise OSError

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        torch.rand(7)
        metrics.clear()  # type: ignore[attr-defined]
        raise KeyError(step)

    def close(self) -> None:
        raise RuntimeError


def test_training_has_the_same_bits_whatever_trackers_do(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaezoo.trainer.loop.LOG_EVERY", 5)
    alone = small_run([], tmp_path / "a")
    with pytest.warns(UserWarning, match="Training goes on"):
        heard = small_run(["tensorboard", "wandb", "trackio", Meddling()], tmp_path / "b")
    assert equal(alone.model, heard.model) and alone.history == heard.history
    for file in ("model.safetensors", "metrics.jsonl", "config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_command_keeps_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(recipe: str, *overrides: str, trackers: list[str], **named: object) -> object:
        asked.append((overrides, trackers))
        return SimpleNamespace(history=[], folder=None)

    monkeypatch.setattr("vaezoo.workflows.train.train", note)
    assert cli.main(["train", "vae-mnist", "--tracker", "tensorboard", "steps=3", "--tracker", "wandb"]) == 0
    assert cli.main(["train", "vae-mnist"]) == 0
    assert asked == [(("steps=3",), ["bar", "tensorboard", "wandb"]), ((), ["bar"])]
