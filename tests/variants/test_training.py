"""Every variant learns: 300 steps on the digits with the options of its example."""

import math

import pytest
from support.runs import fit, small_recipe

from vaezoo.data import Dataset, binarize, load_dataset
from vaezoo.recipe import Recipe
from vaezoo.registry import resolve, variants, with_requirements
from vaezoo.trainer import Trainer, build_model, choose_device, held_out_figures
from vaezoo.trainer.setup import make_feed

STEPS = 300
BACKBONES: dict[str, dict[str, object]] = {
    "mlp": {"name": "mlp", "hidden": [128], "activation": "silu"},
    "conv": {"name": "conv", "channels": [8, 16], "dense": [64]},
    "resnet": {"name": "resnet", "channels": [8, 16]},
}
#: a prior and codes that start from data
DAILY = ("vamp-vae", "vq-vae")


def recipe_for(variant: str, **train: object) -> Recipe:
    """Returns a short recipe: binary digits, or gray ones for a variant with a likelihood of its own."""
    digits, common = {"name": "digits"}, {"steps": STEPS, "batch_size": 128, "learning_rate": 1e-2}
    return small_recipe(variant, data=digits, latent=8, networks=BACKBONES, **{**common, **train})


def digits(recipe: Recipe, split: str) -> Dataset:
    return binarize(load_dataset("digits", split), recipe.data.binarize)


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=() if name in DAILY else pytest.mark.full) for name in variants.names()]
)
def test_the_held_out_distortion_falls_by_a_fifth(variant: str) -> None:
    variant = with_requirements(variant)
    recipe, cpu = recipe_for(variant), choose_device("cpu")
    data, held_out = digits(recipe, "train"), digits(recipe, "test")
    model = build_model(recipe, data)
    warmup = {"rate_warmup": STEPS // 2} if model.objective.has_rate_weight else {}
    recipe = recipe_for(variant, learning_rates={"critic": 3e-4} if "critic" in model.players() else {}, **warmup)
    x, c = make_feed(recipe, model, data, 500, cpu).batch(0)
    model.initialize([(x, c)])  # so that the mean of the data is known
    _, before, _ = held_out_figures(model.eval(), held_out, recipe, cpu)
    run = fit(Trainer(recipe, build_model(recipe, data), data))  # NaN would be an error
    bound, after, rate = held_out_figures(run.model.eval(), held_out, recipe, cpu)
    assert before > 0 and after < 0.8 * before, f"{before:.2f} -> {after:.2f}"
    assert math.isfinite(rate) and rate > 0.1
    assert math.isfinite(bound) == all(entry.rate != "no density" for entry in resolve(variant))
