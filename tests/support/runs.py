"""Small runs: 40 images of 4 x 4 and networks of a few units, trained in a fraction of a second."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from vaezoo.data import Dataset, binarize, from_tensors
from vaezoo.recipe import Recipe, read_recipe
from vaezoo.registry import resolve
from vaezoo.trainer import Run, Trainer, build_model
from vaezoo.trainer.stage_run import StageRun
from vaezoo.trainer.start import make_feed
from vaezoo.trainer.trackers.hook import Tracker

CPU = torch.device("cpu")
CODES = ("fsq-vae", "gumbel-vq-vae", "lfq-vae", "residual-vq-vae", "vq-vae")
LATENT: dict[str, object] = {
    "joint-vae": 12,
    "m2-vae": 5,
    "top-down-vae": 4,
    "vq-vae-2": [3, 5],
    **dict.fromkeys(CODES, (3, 2, 2)),
}
OPTIONS: dict[str, dict[str, object]] = {
    "aae": {"critic_hidden": [6]},
    "code-prior": {"prior_width": 4, "prior_depth": 1, "prior_heads": 2},
    "factor-vae": {"critic_hidden": [6]},
    "fsq-vae": {"levels": [4, 3, 3]},
    "flow-prior-vae": {"transforms": 2, "hidden": [5]},
    "gumbel-vq-vae": {"codes": 4},
    "geco-vae": {"target": 8.0, "speed": 1e-2},
    "iaf-vae": {"iaf_hidden": [5]},
    "iwae": {"samples": 3},
    "ladder-vae": {"widths": [6, 5]},
    "planar-vae": {"flows": 2},
    "residual-vq-vae": {"codes": 4, "depth": 2},
    "top-down-vae": {"width": 6},
    "two-layer-vae": {"top_hidden": [5]},
    "vade": {"clusters": 3},
    "vamp-vae": {"pseudo_inputs": 4},
    "vq-vae": {"codes": 5},
    "vq-vae-2": {"codes": 4},
}
BACKBONE: dict[str, object] = {name: {"name": "conv", "channels": [4], "dense": []} for name in (*CODES, "vq-vae-2")}
BINARIZE: dict[str, object] = dict.fromkeys((*CODES, "vq-vae-2"), "none")


def own(table: Mapping[str, object], variant: str, default: object) -> object:
    """Returns what a table says of the first variant of a composed name that is in it."""
    return next((table[name] for name in variant.split("+") if name in table), default)


def small_recipe(
    variant: str = "vae",
    *,
    stages: list[dict[str, object]] | None = None,
    data: Mapping[str, object] | None = None,
    **train: object,
) -> Recipe:
    """Returns a recipe for `small_data`; `data` goes to [data], other keywords to [train]."""
    conditional = any(entry.context != "optional" for entry in resolve(variant))
    table = {"name": "small", "binarize": own(BINARIZE, variant, "dynamic"), "context": conditional}
    return read_recipe(
        {
            "variant": variant,
            "options": {key: value for name in variant.split("+") for key, value in OPTIONS.get(name, {}).items()},
            "architecture": {
                "latent": own(LATENT, variant, 3),
                "backbone": own(BACKBONE, variant, {"name": "mlp", "hidden": [6]}),
            },
            "data": table | dict(data or {}),
            **({"stage": stages} if stages else {"train": {"steps": 24, "batch_size": 8} | train}),
        }
    )


#: nine labels of 40, three in each batch of eight
FEW_LABELS = {"labels": 9, "labelled_share": 0.4}
#: what two processes train as one process with twice the accumulation does
RANKS_RECIPES = {
    "vae": small_recipe("vae", steps=100, average=0.9, clip=1.0),
    "vq-vae": small_recipe("vq-vae", steps=100),
    "factor-vae": small_recipe("factor-vae", steps=100, accumulation=2),
    "beta-tc-vae": small_recipe("beta-tc-vae", steps=40),
    "geco-vae": small_recipe("geco-vae", steps=40),
    "aae": small_recipe("aae", steps=40),
    "m2-vae": small_recipe("m2-vae", steps=40, data=FEW_LABELS),
}


def small_data(recipe: Recipe, count: int = 40, split: str = "train") -> Dataset:
    """Returns grey blobs with labels, binarized as the recipe says; it hides those of the training set."""
    generator = torch.Generator().manual_seed(len(split))
    labels = torch.arange(count) % 3
    x = torch.rand(count, 1, 4, 4, generator=generator) * 0.3 + 0.3 * labels[:, None, None, None]
    made = from_tensors((x, labels), "small", split=split)
    if recipe.data.labels and split == "train":
        made = made.hide_labels(recipe.data.labels, recipe.seed)
    return binarize(made, recipe.data.binarize)


def trainer(
    recipe: Recipe,
    folder: Path | None = None,
    *,
    data: Dataset | None = None,
    held_out: Dataset | None = None,
    trackers: tuple[Tracker, ...] = (),
    any_size: bool = False,
) -> Trainer:
    """Returns the trainer of a new model."""
    data = small_data(recipe) if data is None else data
    return Trainer(
        recipe,
        build_model(recipe, data),
        data,
        folder=folder,
        held_out=held_out,
        trackers=trackers,
        any_size=any_size,
    )


def fit(chosen: Trainer, resume: bool = False, extend: bool = False) -> Run:
    """Trains; few of the latents are active after so few steps, which is no news here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*latents are active")
        return chosen.fit(resume, extend)


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Says whether two models have equal tensors, bit for bit."""
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)


def first_stage(recipe: Recipe, data: Dataset | None = None) -> StageRun:
    """Returns the first stage of a new model, before its first step."""
    data = small_data(recipe) if data is None else data
    model = build_model(recipe, data)
    stage, share = recipe.stages[0], recipe.data.labelled_share
    feed = make_feed(recipe, model, data, stage.batch_size, CPU, labelled_share=share)
    return StageRun(model, stage, feed, offset=0)


def with_bernoulli_on_grey(**train: object) -> tuple[Recipe, Dataset]:
    """Returns a recipe whose likelihood is a mere loss of its data, and the data."""
    tables = small_recipe(**train).as_dict()
    recipe = read_recipe(tables | {"data": {"name": "small"}})
    return recipe, small_data(recipe)
