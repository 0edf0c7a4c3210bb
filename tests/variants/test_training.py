"""Every variant learns: 300 steps on the digits, which the trainer takes as it takes any others."""

import math

import pytest
from support.runs import fit

from vaezoo.data import Dataset, binarize, load_dataset
from vaezoo.recipe import Recipe, read_recipe
from vaezoo.registry import resolve, variants, with_requirements
from vaezoo.trainer import Trainer, build_model, choose_device, held_out_figures
from vaezoo.trainer.start import make_feed

STEPS = 300
#: what 300 steps on 64 pixels need: the defaults are made for larger images and longer runs
OPTIONS: dict[str, dict[str, object]] = {
    "aae": {"critic_hidden": [32]},
    "annealed-vae": {"gamma": 10.0, "capacity": 12.0, "capacity_steps": 200},
    "beta-tc-vae": {"beta": 2.0},
    "beta-vae": {"beta": 0.5},
    "categorical-vae": {"cooling": 1e-2},
    "ciwae": {"samples": 4},
    "dip-vae-ii": {"lambda_od": 1.0, "lambda_d": 1.0},
    "factor-vae": {"critic_hidden": [32]},
    "gumbel-vq-vae": {"codes": 16, "beta": 0.1, "cooling": 1e-2},
    "geco-vae": {"target": 18.0, "speed": 1e-2},
    "info-vae": {"weight": 5.0},
    "iwae": {"samples": 4},
    "joint-vae": {"gamma": 5.0, "continuous_capacity": 8.0, "capacity_steps": 200},
    "ladder-vae": {"widths": [64, 32]},
    "miwae": {"samples": 2, "groups": 4},
    "piwae": {"samples": 2, "groups": 4},
    "vae-gan": {"critic_channels": 8},
    "residual-vq-vae": {"codes": 16, "depth": 2},
    "vq-vae": {"codes": 32},
    "vq-vae+code-prior": {"codes": 32, "prior_width": 16, "prior_depth": 1},
    "vq-vae-2": {"codes": 32},
    "wae-gan": {"critic_hidden": [32], "weight": 2.0},
}
TRAIN: dict[str, dict[str, object]] = {"vae-gan": {"learning_rates": {"critic": 3e-4}}}
LATENT: dict[str, object] = {
    "categorical-vae": [16, 4],
    "joint-vae": 18,
    "m2-vae": 18,
    "top-down-vae": 12,
    "fsq-vae": [4, 2, 2],
    "gumbel-vq-vae": [8, 2, 2],
    "lfq-vae": [6, 2, 2],
    "residual-vq-vae": [8, 2, 2],
    "vq-vae": [8, 2, 2],
    "vq-vae+code-prior": [8, 2, 2],
    "vq-vae-2": [8, 5],
}
SMALL_BACKBONES: dict[str, dict[str, object]] = {
    "mlp": {"name": "mlp", "hidden": [128], "activation": "silu"},
    "conv": {"name": "conv", "channels": [8, 16], "dense": [64]},
}


def recipe_for(variant: str, **train: object) -> Recipe:
    """Returns a short recipe: binary digits, or grey ones where the variant has a likelihood of its own."""
    entries = resolve(variant)
    defaults = {key: value for entry in entries for key, value in entry.defaults.items()}
    return read_recipe(
        {
            "variant": variant,
            "options": OPTIONS.get(variant, {}),
            "architecture": {
                "latent": LATENT.get(variant, 8),
                "backbone": SMALL_BACKBONES[str(defaults.get("backbone", "mlp"))],
            },
            "data": {
                "name": "digits",
                "binarize": "none" if "likelihood" in defaults else "dynamic",
                "context": any(entry.context != "optional" for entry in entries),
            },
            "train": {"steps": STEPS, "batch_size": 128, "learning_rate": 1e-2} | TRAIN.get(variant, {}) | train,
        }
    )


def digits(recipe: Recipe, split: str) -> Dataset:
    return binarize(load_dataset("digits", split), recipe.data.binarize)


@pytest.mark.parametrize("variant", variants.names())
def test_the_held_out_distortion_falls_by_a_fifth(variant: str) -> None:
    variant = with_requirements(variant)
    recipe, cpu = recipe_for(variant), choose_device("cpu")
    data, held_out = digits(recipe, "train"), digits(recipe, "test")
    model = build_model(recipe, data)
    if model.objective.has_rate_weight:
        recipe = recipe_for(variant, rate_warmup=STEPS // 2)
    x, c = make_feed(recipe, model, data, 500, cpu).batch(0)
    model.initialize([(x, c)])  # so that the data's mean is no news
    _, before, _ = held_out_figures(model.eval(), held_out, recipe, cpu)
    run = fit(Trainer(recipe, build_model(recipe, data), data))  # NaN would be an error
    bound, after, rate = held_out_figures(run.model.eval(), held_out, recipe, cpu)
    assert before > 0 and after < 0.8 * before, f"{before:.2f} -> {after:.2f}"
    assert math.isfinite(rate) and rate > 0.1
    assert math.isfinite(bound) == all(entry.rate != "no density" for entry in resolve(variant))
