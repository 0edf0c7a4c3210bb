"""`channels_last` and `compile` change the speed of a stage and not its result, and leave the model as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.runs import equal, fit, small_recipe, trainer

from vaezoo.errors import RecipeError
from vaezoo.trainer import compilation
from vaezoo.trainer import stage_run as stage


def test_channels_last_gives_the_same_weights_and_restores_the_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fit(trainer(small_recipe("vq-vae", average=0.9))).model
    layouts, advance = set[bool](), stage.StageRun.advance

    def checked(run: stage.StageRun) -> None:
        weights = [p for p in run.model.parameters() if p.dim() == 4 and min(p.shape[:2]) > 1]
        layouts.update(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
        advance(run)

    monkeypatch.setattr(stage.StageRun, "advance", checked)
    other = fit(trainer(small_recipe("vq-vae", average=0.9, channels_last=True))).model
    assert layouts == {True}
    assert all(tensor.is_contiguous() for tensor in other.state_dict().values())
    torch.testing.assert_close(other.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "value"), [("cvae", True), ("factor-vae", "reduce-overhead")])
def test_the_loss_is_compiled(variant: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_, seen = torch.compile, list[dict[str, Any]]()  # Any: as torch declares it

    def without_code_generation(function: Callable[..., object], **options: Any) -> object:
        seen.append(options)
        return compile_(function, backend="eager", dynamic=options["dynamic"])

    monkeypatch.setattr(torch, "compile", without_code_generation)
    settings: dict[str, object] = {"accumulation": 2, "steps": 5}
    plain = fit(trainer(small_recipe(variant, **settings))).model
    assert seen == []
    assert equal(fit(trainer(small_recipe(variant, **settings, compile=value))).model, plain)
    options = {"fallback_random": True, "triton.cudagraphs": False}  # CUDA graphs are for GPUs
    assert seen == [{"dynamic": False, "options": options}]


def test_what_cannot_be_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"train\.compile"):
        small_recipe(compile="max-autotune")
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    with pytest.raises(RecipeError, match=r"train\.compile needs a C\+\+ compiler"):
        fit(trainer(small_recipe("vae", compile=True)))


@pytest.mark.deep
def test_generated_code_gives_the_same_weights() -> None:
    plain = fit(trainer(small_recipe("vae"))).model
    other = fit(trainer(small_recipe("vae", compile=True))).model
    torch.testing.assert_close(other.state_dict(), plain.state_dict(), rtol=1e-4, atol=1e-5)
