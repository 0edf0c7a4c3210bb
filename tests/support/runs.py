"""Small runs: 40 images of 4 x 4, trained in a fraction of a second with the options of each variant's example."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from msgspec.structs import replace

from support.cases import example_of
from vaezoo.data import Dataset, binarize, from_tensors
from vaezoo.recipe import Recipe, read_recipe
from vaezoo.registry import resolve
from vaezoo.trainer import Run, Trainer, build_model
from vaezoo.trainer.batches import noise_seed
from vaezoo.trainer.setup import make_feed
from vaezoo.trainer.stage_run import StageRun
from vaezoo.trainer.tracking import Tracker

CPU = torch.device("cpu")
CONV = {"name": "conv", "channels": [4], "dense": []}
SMALL: dict[str, dict[str, object]] = {"mlp": {"name": "mlp", "hidden": [6]}, "conv": CONV}


def small_recipe(
    variant: str = "vae",
    *,
    stages: list[dict[str, object]] | None = None,
    data: Mapping[str, object] | None = None,
    latent: int = 3,
    networks: Mapping[str, Mapping[str, object]] = SMALL,
    **train: object,
) -> Recipe:
    """Returns a recipe for `small_data`; `data` goes to [data], `latent` and `networks` to [architecture] unless the
    variant has others, the rest to [train].
    """
    entries, options = resolve(variant), example_of(variant)
    defaults = {key: value for entry in entries for key, value in entry.defaults.items()}
    size = options.pop("latent", None if "latent" in defaults else latent)
    return read_recipe(
        {
            "variant": variant,
            "options": options,
            "architecture": {
                **({} if size is None else {"latent": size}),
                "backbone": networks[str(defaults.get("backbone", "mlp"))],
            },
            "data": {
                "name": "small",
                "binarize": "none" if "likelihood" in defaults else "dynamic",
                "context": any(entry.context != "optional" for entry in entries),
                **(data or {}),
            },
            **({"stage": stages} if stages else {"train": {"steps": 24, "batch_size": 8} | train}),
        }
    )


def with_critic(recipe: Recipe) -> Recipe:
    """Returns a recipe of kl-autoencoder with a critic that is used after ten steps."""
    return replace(recipe, options={"beta": 1.0, "critic": 0.5, "critic_channels": 4, "critic_start": 10})


RESNET = {"resnet": {"name": "resnet", "channels": [8, 16], "checkpointing": True}}
#: nine labels of 40 examples, three in each batch of eight
FEW_LABELS = {"labels": 9, "labelled_share": 0.4}
#: recipes that two processes train like one process with twice the accumulation
RANKS_RECIPES = {
    "vae": small_recipe("vae", steps=100, average=0.9, clip=1.0),
    "vq-vae": small_recipe("vq-vae", steps=100),
    "factor-vae": small_recipe("factor-vae", steps=100, accumulation=2),
    "beta-tc-vae": small_recipe("beta-tc-vae", steps=40),
    "geco-vae": small_recipe("geco-vae", steps=40),
    "aae": small_recipe("aae", steps=40),
    "m2-vae": small_recipe("m2-vae", steps=40, data=FEW_LABELS),
    # A critic amplifies rounding, all the more at a high rate.
    "kl-autoencoder": with_critic(
        small_recipe("kl-autoencoder", steps=50, average=0.9, learning_rate=1e-4, networks=RESNET)
    ),
}
#: the same with sharded parameters
SHARDED_RECIPES = {
    f"{name}-fsdp": replace(recipe, stages=(replace(recipe.stages[0], steps=50, parallel="fsdp"),))
    for name, recipe in RANKS_RECIPES.items()
    if name in ("vae", "vq-vae", "factor-vae", "kl-autoencoder")
}


def small_data(recipe: Recipe, count: int = 40, split: str = "train") -> Dataset:
    """Returns gray blobs with labels, binarized and with hidden labels as in the recipe."""
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
        recipe, build_model(recipe, data), data, folder=folder, held_out=held_out, trackers=trackers, any_size=any_size
    )


def fit(chosen: Trainer, resume: bool = False, extend: bool = False) -> Run:
    """Trains without the warning that few latents are active, which is true after so few steps."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*latents are active")
        return chosen.fit(resume, extend)


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Returns whether two models have equal tensors, bit for bit."""
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)


def first_stage(recipe: Recipe, data: Dataset | None = None) -> StageRun:
    """Returns the first stage of a new model, before its first step."""
    data = small_data(recipe) if data is None else data
    model = build_model(recipe, data)
    stage, share = recipe.stages[0], recipe.data.labelled_share
    feed = make_feed(recipe, model, data, stage.batch_size, CPU, labelled_share=share)
    return StageRun(model, stage, feed, offset=0)


def reseed(seed: int, step: int, micro: int) -> None:
    """Seeds torch's process-wide generator with the seed of a micro-batch."""
    torch.default_generator.manual_seed(noise_seed(seed, step, micro))


def with_bernoulli_on_grey(**train: object) -> tuple[Recipe, Dataset]:
    """Returns a recipe whose likelihood gives its data no density, and the data."""
    tables = small_recipe(**train).as_dict()
    recipe = read_recipe(tables | {"data": {"name": "small"}})
    return recipe, small_data(recipe)
