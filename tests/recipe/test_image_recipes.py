"""Recipes of images in color and of sprites: 20 steps on files of the published formats, with batches of two."""

import math
from pathlib import Path

import pytest
import torch
from support.emoji_archives import write_archives
from support.torchvision_files import write_celeba, write_cifar10

import vaezoo
from vaezoo.data.sets import emoji
from vaezoo.recipe import list_recipes, read_recipe

SHAPES = {
    "dsprites": (1, 64, 64),
    "emoji": (3, 64, 64),
    "torchvision:CIFAR10": (3, 32, 32),
    "torchvision:CelebA": (3, 64, 64),
}
NAMES = [name for name in list_recipes() if read_recipe(name).data.name in SHAPES]


def few_emoji() -> list[str]:
    """Code points of two characters of each category, and of some of the validation split."""
    rows = [line.split(": ")[1].split() for line in Path(emoji.__file__).with_name("emoji_categories.txt").open()]
    held = [name for row in rows for name in row if emoji.split_of(emoji.character_of(name)) == "validation"]
    return sorted({*(name for row in rows for name in row[:2]), *held[:4]})


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes a cache with every set."""
    monkeypatch.setenv("VAEZOO_HOME", str(tmp_path))
    write_archives(tmp_path / "source", {"google": few_emoji(), "twitter": few_emoji(), "fluent": []}, monkeypatch)
    monkeypatch.setattr(emoji, "ARTISTS", ("google", "twitter"))
    write_cifar10(tmp_path, monkeypatch)
    write_celeba(tmp_path, monkeypatch)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_model_of_the_recipe_has_the_shape_of_its_data(name: str) -> None:
    recipe = read_recipe(name)
    shape, table = SHAPES[recipe.data.name], recipe.architecture
    with torch.device("meta"):
        model = vaezoo.create(
            recipe.variant, shape=shape, latent=table.latent, context=10 if recipe.data.context else 0,
            backbone=table.backbone, likelihood=table.likelihood, examples=1_000, **recipe.options,
        )  # fmt: skip
        c = torch.zeros(2, 10) if model.context else None
        z = torch.zeros(2, *(model.latent or ()))
        assert model.decoder(z, c).mean.shape == (2, *shape)
    unlike_the_bound = recipe.variant.startswith(("beta", "dip", "factor", "kl")) or "gan" in recipe.variant
    assert bool(recipe.data.validation) is not unlike_the_bound


@pytest.mark.full
@pytest.mark.usefixtures("files")
@pytest.mark.filterwarnings("ignore:.*(latents are active|has no density|Got average)")
@pytest.mark.parametrize("name", sorted(NAMES))
def test_twenty_steps(name: str) -> None:
    changes = ["train.steps=20", "train.batch_size=2", "train.precision=float32"]
    if isinstance(read_recipe(name).data.validation, int) and read_recipe(name).data.validation:
        changes.append("data.validation=4")
    run = vaezoo.train(name, *changes, out=None, trackers=(), device="cpu")
    recipe, model = run.recipe, run.model
    assert model.shape == SHAPES[recipe.data.name] and model.context == (10 if recipe.data.context else 0)
    assert max(line["step"] for line in run.history) == 20 * len(recipe.stages)
    figures = [value for line in run.history for key, value in line.items() if key in ("distortion", "rate")]
    assert figures and all(map(math.isfinite, figures))
    assert ("validation_bound" in {key for line in run.history for key in line}) == bool(recipe.data.validation)
    c = torch.tensor([0, 9]) if model.context else None
    samples = model.sample(2, c, seed=0)
    assert samples.shape == (2, *SHAPES[recipe.data.name]) and bool(samples.isfinite().all())


def test_the_recipes_cover_both_kinds_of_sets() -> None:
    found = {name: read_recipe(name).data.name for name in NAMES}
    assert {data: sum(each == data for each in found.values()) for data in SHAPES} == {
        "dsprites": 5, "emoji": 5, "torchvision:CIFAR10": 3, "torchvision:CelebA": 2,
    }  # fmt: skip
