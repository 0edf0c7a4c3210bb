"""Layout and compilation change how fast a stage is, not what it learns, and are gone after it."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from support.runs import equal, fit, small_data, small_recipe, trainer
from torch import nn

from vaezoo.errors import InterruptedTrainingError, RecipeError
from vaezoo.trainer import memory_format as layout
from vaezoo.trainer import stage_run as stage


def watched(monkeypatch: pytest.MonkeyPatch, look: Callable[[stage.StageRun], None]) -> None:
    """Has `look` look at a stage before each of its steps."""
    advance = stage.StageRun.advance

    def hooked(run: stage.StageRun) -> None:
        look(run)
        advance(run)

    monkeypatch.setattr(stage.StageRun, "advance", hooked)


def test_channels_last_learns_the_same_and_leaves_the_weights_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fit(trainer(small_recipe("vq-vae", average=0.9))).model
    seen: set[bool] = set()

    def look(run: stage.StageRun) -> None:
        weights = [p for p in run.model.parameters() if p.dim() == 4 and min(p.shape[:2]) > 1]
        assert weights
        seen.update(p.is_contiguous(memory_format=torch.channels_last) for p in weights)

    watched(monkeypatch, look)
    other = fit(trainer(small_recipe("vq-vae", average=0.9, channels_last=True))).model
    assert seen == {True}
    assert all(tensor.is_contiguous() for tensor in other.state_dict().values())
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=1e-4, atol=1e-5)


def test_channels_last_is_saved_and_goes_on_as_if_never_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small_recipe("vq-vae", steps=120, average=0.9, channels_last=True)
    backbone = {"name": "conv", "channels": [4, 6], "dense": []}  # several channels in and out: layouts differ
    recipe = replace(recipe, architecture=replace(recipe.architecture, backbone=backbone, latent=[3, 1, 1]))
    held_out = small_data(recipe, 12, "validation")
    straight = fit(trainer(recipe, tmp_path / "straight", held_out=held_out))
    chosen = trainer(recipe, tmp_path / "stopped", held_out=held_out)

    def ask(run: stage.StageRun) -> None:
        if run.done == 56:
            chosen._stop.received = signal.SIGINT

    with monkeypatch.context() as patch:
        watched(patch, ask)
        with pytest.raises(InterruptedTrainingError):
            fit(chosen)
    again = fit(trainer(recipe, tmp_path / "stopped", held_out=held_out), resume=True)
    assert equal(again.model, straight.model) and again.history == straight.history


def test_compiled_networks_learn_the_same_and_are_plain_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    compile_ = nn.Module.compile

    def without_code_generation(module: nn.Module, **options: bool) -> None:
        compiled.append(module)
        compile_(module, backend="eager", **options)

    monkeypatch.setattr(nn.Module, "compile", without_code_generation)
    plain, chosen = fit(trainer(small_recipe("cvae"))).model, trainer(small_recipe("cvae", compile=True))
    watched(monkeypatch, lambda run: None if all(m._compiled_call_impl for m in compiled) else pytest.fail("plain"))
    assert equal(fit(chosen).model, plain)
    model = chosen.model
    assert compiled == [model.encoder.network, model.decoder.network, model.prior.network]
    assert not any(module._compiled_call_impl for module in compiled)


def test_without_a_compiler_compilation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout.shutil, "which", lambda name: None)
    with pytest.raises(RecipeError, match=r"train\.compile = true needs a C\+\+ compiler"):
        fit(trainer(small_recipe("vae", compile=True)))


@pytest.mark.deep
def test_really_compiled_networks_learn_the_same() -> None:
    plain = fit(trainer(small_recipe("vae"))).model
    other = fit(trainer(small_recipe("vae", compile=True))).model
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=1e-4, atol=1e-5)
