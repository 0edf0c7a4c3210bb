"""Warnings before the first step and about a run that diverges: what looks wrong, and what to do."""

import math
import re
import warnings
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from support.runs import fit, small_data, small_recipe, trainer
from torch import Tensor

from vaezoo.core import fast_bfloat16
from vaezoo.data import from_tensors
from vaezoo.recipe import Recipe, read_recipe
from vaezoo.trainer.batches import BatchStream
from vaezoo.trainer.notes import note_on_divergence, notes_on_settings

GAUSSIAN = {"name": "gaussian", "scale": 1.0}
COLORS = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def with_likelihood(likelihood: object, variant: str = "vae", **train: object) -> Recipe:
    """Returns a recipe for data that are not binarized."""
    recipe = small_recipe(variant, data={"binarize": "none"}, **{"steps": 1, "batch_size": 8, **train})
    table = {**cast("dict[str, object]", recipe.as_dict()["architecture"]), "likelihood": likelihood}
    return read_recipe(recipe.as_dict() | {"architecture": table})


def notes(recipe: Recipe, x: Tensor, held_out: Tensor | None = None) -> list[str]:
    """Returns the warnings of a training but that on latents, after checking that the run has the same notes."""
    held = None if held_out is None else from_tensors(held_out, "mine", split="validation")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = trainer(recipe, data=from_tensors(x, "mine"), held_out=held).fit()
    texts = [str(each.message) for each in caught]
    assert texts == run.notes
    return [text for text in texts if "latents are active" not in text]


@pytest.mark.parametrize(
    ("likelihood", "x", "wanted"),
    [
        ("bernoulli", COLORS, "binarize gray images .* or choose a likelihood for colors and shades"),
        ("bernoulli", COLORS[:, :1], "Bernoulli likelihood, which needs values that are 0 or 1"),
        ({"name": "categorical", "levels": 4}, COLORS, "multiples of 1/3 in .*pass 8-bit images as uint8"),
        ("discretized-logistic", COLORS.to(torch.bfloat16), "multiples of 1/255"),
    ],
)
def test_data_without_a_density_give_one_warning_with_the_remedy(likelihood: object, x: Tensor, wanted: str) -> None:
    (text,) = notes(with_likelihood(likelihood), x, x[:9])
    assert re.search(rf"The train set 'mine' has no density .*{wanted}", text)


def test_held_out_data_without_a_density_are_named_and_data_with_one_or_losses_without_a_bound_are_not() -> None:
    binary = with_likelihood("bernoulli")
    (text,) = notes(binary, COLORS.round(), COLORS[:9])
    assert "The validation set 'mine' has no density" in text
    assert not notes(binary, COLORS.round(), COLORS[:9].round())
    assert not notes(with_likelihood("discretized-logistic"), (COLORS * 255).to(torch.uint8))
    assert not notes(with_likelihood("bernoulli", "ae"), COLORS)


@pytest.mark.parametrize(
    ("likelihood", "wanted"),
    [
        (GAUSSIAN, r"number 1, 3; root mean square up to 4e\+06"),
        ({"name": "gaussian", "scale_kind": "optimal"}, "number 1, 3"),
        ({"name": "gaussian", "scale": 100.0}, "number 3"),
    ],
)
def test_columns_of_large_values_are_numbered(likelihood: object, wanted: str) -> None:
    sizes = torch.tensor([1.0, 1e3, 50.0, 4e6])
    table = torch.ones(40, 4) * sizes * (1 - 2 * (torch.arange(40) % 2))[:, None]  # ± sizes, exactly
    (text,) = notes(with_likelihood(likelihood), table)
    assert re.search(rf"mine: got columns of large values \({wanted}.* Standardize the columns", text)
    assert not notes(with_likelihood(GAUSSIAN), table / sizes)


@pytest.mark.parametrize(
    ("steps", "average", "advice"),
    [(2, 0.8, "0"), (100, 0.999, "0.9"), (400, 0.999, "0.97"), (600, 0.999, None), (6, 0.9, None), (3, 0.0, None)],
)
def test_an_average_over_more_steps_than_the_stage_has_is_noted(steps: int, average: float, advice: str | None) -> None:
    feed = cast(BatchStream, SimpleNamespace(device=torch.device("cpu"), data=range(40)))
    texts = [*notes_on_settings(small_recipe("vae", steps=steps, average=average, batch_size=8), feed)]
    assert len(texts) == (advice is not None)
    assert all(f"in a stage of {steps} steps" in text and f"train.average={advice}, or" in text for text in texts)


def test_pixels_of_0_to_255_are_noted_with_the_divisor() -> None:
    (text,) = notes(with_likelihood(GAUSSIAN), (COLORS * 255).round())
    assert "got pixels of large values" in text and "Divide by 255, or pass uint8 images" in text


def test_values_that_vary_less_than_a_fixed_scale_are_noted() -> None:
    x = torch.randn(40, 4)
    (text,) = notes(with_likelihood(GAUSSIAN), 5.0 + 1e-3 * x / x.std(0, correction=0))
    assert "deviate by at most 0.001, which a likelihood of scale 1" in text
    assert not notes(with_likelihood({"name": "gaussian", "scale": 0.001}), 1e-3 * x)
    assert not notes(with_likelihood({"name": "gaussian", "scale_kind": "optimal"}), 1e-3 * x)
    assert not notes(with_likelihood(GAUSSIAN), torch.ones(40, 4))  # constant


def test_a_batch_larger_than_the_set_is_noted() -> None:
    (text,) = notes(with_likelihood(GAUSSIAN, batch_size=41), COLORS)
    assert text.startswith("Got batch_size = 41 with 40 training examples; each batch has all 40.")
    assert not notes(with_likelihood(GAUSSIAN, batch_size=40), COLORS)


@pytest.mark.parametrize(
    ("known", "fast"),
    [
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, False),
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"neon": True}, True),  # not known
    ],
)
def test_bfloat16_on_a_processor_that_emulates_it_is_noted(
    known: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert fast_bfloat16(torch.device("cpu")) == fast
    found = notes(with_likelihood(GAUSSIAN, precision="bf16"), COLORS)
    assert [text.startswith('Got precision = "bf16" on a cpu device without') for text in found] == [True] * (not fast)
    assert not notes(with_likelihood(GAUSSIAN), COLORS)


def test_a_run_that_diverges_is_noted_once_while_it_runs() -> None:
    recipe = with_likelihood(GAUSSIAN, steps=300, learning_rate=10.0, batch_size=40)
    (text,) = notes(recipe, COLORS)
    assert re.search(r"nats at step 0 to [\d,]{10,} at step 100: the run diverges. Lower the learning rate, or", text)
    assert not notes(with_likelihood(GAUSSIAN, steps=300, batch_size=40), COLORS)


@pytest.mark.parametrize(
    ("lines", "bounded", "wanted"),
    [
        ([(100.0, 5.0, -105.0), (10_604.0, 5.0, -1.0)], True, None),
        ([(100.0, 5.0, -105.0), (10_700.0, 6.0, -1.0)], True, "rose from 105 nats at step 100 to 10,706 at step 200"),
        ([(-900.0, 5.0, 895.0), (-800.0, 5.0, 795.0)], True, None),
        ([(-900.0, 5.0, 895.0), (95_000.0, 5.0, -1.0)], True, "rose from -895 nats"),
        ([(100.0, 5.0, -105.0), (100.0, 5.0, None)], True, "figures of step 200 are not finite"),
        ([(100.0, 5.0, None), (90.0, 90_000.0, None)], False, None),
        ([(100.0, 5.0, None), (20_000.0, 5.0, None)], False, "The distortion rose from 100"),
        ([(100.0, 5.0, None), (None, 5.0, None)], False, "not finite"),
        ([(math.e, None, None)], True, "figures of step 100 are not finite"),
        ([], True, None),
    ],
)
def test_divergence_is_a_rise_by_a_hundred_times_the_first_figure_or_a_figure_that_is_not_finite(
    lines: list[tuple[float | None, ...]], bounded: bool, wanted: str | None
) -> None:
    names = ("distortion", "rate", "bound")
    history = [{"step": 100.0 * (n + 1), **dict(zip(names, each, strict=True))} for n, each in enumerate(lines)]
    history += [{"step": 300.0, "validation_bound": None, "validation_distortion": None, "validation_rate": None}]
    text = note_on_divergence(history, bounded)
    assert text is None if wanted is None else text is not None and wanted in text


def test_a_plain_run_has_no_notes_and_a_second_fit_repeats_none() -> None:
    recipe = small_recipe()
    chosen = trainer(recipe, held_out=small_data(recipe, 9, "validation"))
    assert fit(chosen).notes == fit(chosen).notes
