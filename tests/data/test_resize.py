"""Sizes and channels of images in memory, streamed and drawn, in recipes and where a model is measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

import vaezoo
from vaezoo.data import Dataset, ImageOptions, as_dataset, binarize, fit_images, from_tensors, load_dataset, pad
from vaezoo.errors import ConfigError, DataError, RecipeError, ShapeError
from vaezoo.evaluation.test_sets import test_set as set_for
from vaezoo.recipe import read_recipe
from vaezoo.workflows.train import training_data

OPTIONS = ImageOptions.of


class Items(list[object], torch.utils.data.Dataset[object]):
    """A map-style data set."""


def images(count: int = 3, channels: int = 3, height: int = 20, width: int = 60) -> torch.Tensor:
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def scaled(x: torch.Tensor, *size: int) -> torch.Tensor:
    return interpolate(x.float(), size, mode="bilinear", antialias=True)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64])
def test_sizes_equal_torchs(channels: int, kind: torch.dtype) -> None:
    whole = images(channels=channels)
    x = whole if kind == torch.uint8 else whole.to(kind) / 255
    got = fit_images(from_tensors(x), OPTIONS(size=10)).images
    assert got.dtype == kind and got.shape == (3, channels, 10, 10)
    assert (got.float() * (1 if kind == torch.uint8 else 255) - scaled(whole, 10, 30)[..., 10:20]).abs().max() <= 1
    boxed = fit_images(from_tensors(x), OPTIONS(size=[30, 30], crop="none", background=[255, 0, 51])).images.double()
    unit = 255 if kind == torch.uint8 else 1
    margins = {1: [0.299 + 0.114 * 0.2], 2: [0, 0], 3: [1, 0, 0.2]}[channels]
    for channel, value in enumerate(margins):
        margin = torch.cat([boxed[:, channel, :10], boxed[:, channel, 20:]])
        assert (margin / unit - value).abs().max() < 1 / 255
    assert (boxed[:, :, 10:20] * 255 / unit - scaled(whole, 10, 30)).abs().max() <= 1


def test_channels_equal_pillows() -> None:
    color = images()
    gray = fit_images(from_tensors(color), OPTIONS(channels="gray")).images
    expected = [np.array(Image.fromarray(each.permute(1, 2, 0).numpy()).convert("L")) for each in color]
    assert np.array_equal(gray[:, 0], np.stack(expected))
    floating = fit_images(from_tensors(color / 255), OPTIONS(channels="gray")).images
    assert (floating * 255 - gray).abs().max() < 0.51
    assert torch.equal(fit_images(from_tensors(gray), OPTIONS(channels="color")).images, gray.expand(-1, 3, -1, -1))


def test_binary_images_become_gray() -> None:
    binary = from_tensors(images(channels=1) % 2, scale=1)
    got = fit_images(binary, OPTIONS(size=[10, 30]))
    assert got.scale == 255 and (got.images - scaled(binary.images * 255, 10, 30)).abs().max() <= 1
    with pytest.raises(DataError, match="Resize them before"):
        fit_images(binarize(binary, "static"), OPTIONS(size=10))


def test_what_has_no_size_is_refused() -> None:
    for data, given in (
        (from_tensors(torch.rand(5, 30)), {"size": 8}),
        (from_tensors(images(channels=2)), {"channels": "gray"}),
    ):
        with pytest.raises(DataError, match=rf"got {next(iter(given))} = .* for examples of shape .*expected images"):
            fit_images(data, OPTIONS(**given))  # type: ignore[arg-type]


def test_named_sets_are_resized_and_joined() -> None:
    test, train = load_dataset("digits", "test", size=16, channels="color"), load_dataset("digits", size=16)
    assert test.shape == (3, 16, 16) and train.shape == (1, 16, 16)
    whole = load_dataset("digits", "all", size=16)
    assert torch.equal(whole.images, torch.cat([train.images, test.images[:, :1]])) and whole.split == "all"
    assert whole.labels is not None and len(whole.labels) == 1797 and whole.classes == 10


@pytest.mark.parametrize("change", ["size", "pad"])
def test_drawn_sets_keep_their_factors_and_a_digest(change: str) -> None:
    plain = load_dataset("dsprites", "all")
    drawn = load_dataset("dsprites", "all", size=32) if change == "size" else pad(plain, 2)
    assert drawn.shape == ((1, 32, 32) if change == "size" else (1, 68, 68)) and len(drawn) == 737_280
    assert drawn.digest != plain.digest and drawn.factors is not None and plain.factors is not None
    assert torch.equal(drawn.factors.places, plain.factors.places)
    x = plain.batch(torch.tensor([5]))
    expected = scaled(x * 255, 32, 32) / 255 if change == "size" else torch.nn.functional.pad(x, [2] * 4)
    assert (drawn.batch(torch.tensor([5])) - expected).abs().max() < 1.1 / 255
    assert set(drawn.batch(torch.arange(3)).unique().tolist()) <= set(drawn.levels().tolist())


def test_class_names_and_their_number() -> None:
    named = Dataset(
        name="x", split="train", images=images(), labels=torch.tensor([0, 1, 1]), classes=2, class_names=("a", "b")
    )
    assert named.subset([2]).class_names == ("a", "b") and named.split_off(1, 0)[1].class_names == ("a", "b")
    with pytest.raises(DataError, match="1 names of classes with classes=2"):
        Dataset(name="x", split="train", images=images(), labels=torch.tensor([0, 1, 1]), classes=2, class_names=("a",))
    with pytest.raises(DataError, match=r"60,000,000,000,001 classes; expected at most 100,000.*torch\.unique"):
        from_tensors((images(), torch.tensor([0, 1, 60_000_000_000_000])))


def test_words_become_classes_with_names() -> None:
    words = ["dog", "cat", "dog"]
    for given in (words, tuple(words), np.array(words), np.array(words, dtype=object)):
        found = from_tensors((images(), given))
        assert found.labels is not None and found.labels.tolist() == [1, 0, 1]
        assert found.class_names == ("cat", "dog") and found.classes == 2
    partly = from_tensors((images(), ["dog", None, "cat"]))
    assert partly.labels is not None and partly.labels.tolist() == [1, -1, 0]
    items = from_tensors(Items(list(zip(images(), words, strict=True))))
    assert items.labels is not None and items.labels.tolist() == [1, 0, 1] and items.class_names == ("cat", "dog")
    for wrong in (["dog", 3, "cat"], [["dog"], ["cat"], ["dog"]]):
        with pytest.raises((DataError, ShapeError), match="got"):
            from_tensors((images(), wrong))
    with pytest.raises(ShapeError, match=r"\(3,\), one label per example"):
        from_tensors((images(), words[:2]))


def test_masked_elements_are_no_data() -> None:
    values = np.ma.masked_values(np.array([[[1.0, -9999.0]], [[0.5, 0.25]]]), -9999.0)
    for given in (values, (values, np.arange(2)), (torch.rand(2, 3), np.ma.masked_equal(np.arange(2), 1))):
        with pytest.raises(DataError, match=r"array with 1 masked elements.*filled"):
            from_tensors(given)
    assert from_tensors(np.ma.masked_values(np.ones((2, 3)), -9999.0)).images.sum() == 6
    with pytest.raises(DataError, match="item 1: got an array with 1 masked"):
        from_tensors(Items([values[1], values[0]]))


def test_pillow_images_are_upright_of_one_size_and_on_the_background() -> None:
    photograph = Image.new("RGB", (20, 10), (200, 0, 0))
    photograph.putpixel((0, 0), (0, 0, 200))
    photograph.getexif()[0x0112] = 6  # to be turned by 90 degrees clockwise: the corner moves to the right
    found = as_dataset([photograph, photograph]).images
    assert found.shape == (2, 3, 20, 10) and found[0, :, 0, 9].tolist() == [0, 0, 200]
    mixed = [photograph, Image.new("RGBA", (7, 9), (0, 0, 0, 0)), Image.new("L", (3, 3), 255)]
    options = OPTIONS(size=4, background="white", channels="color")
    for given in (mixed, Items(mixed), Items([(image, 0) for image in mixed])):
        small = as_dataset(given, options=options).images
        assert small.shape == (3, 3, 4, 4) and small[1:].min() == 255
    with pytest.raises(ShapeError, match=r"item 1; expected \(3, 20, 10\)"):
        as_dataset(mixed)
    assert photograph.size == (20, 10)


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    """24 transparent color images of two sizes, in a folder for training and one for tests."""
    noise = np.random.default_rng(0)
    for number in range(24):
        pixels = noise.integers(0, 256, (12, 12 + 6 * (number % 2), 4), dtype=np.uint8)
        place = tmp_path / "flags" / ("train" if number < 16 else "test")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:02}.png")
    return tmp_path / "flags"


@pytest.mark.filterwarnings("ignore:.*latents are active")
def test_a_model_is_measured_on_images_resized_as_it_was_trained(flags: Path, tmp_path: Path) -> None:
    recipe = {
        "variant": "vae",
        "architecture": {"latent": 3, "backbone": {"name": "mlp", "hidden": [8]}, "likelihood": "gaussian"},
        "data": {"name": f"folder:{flags}", "size": 8, "crop": "none", "background": "white", "pad": 1},
        "train": {"steps": 3, "batch_size": 4},
    }
    vaezoo.train(recipe, out=tmp_path / "run", trackers=())
    model = vaezoo.load(tmp_path / "run")
    assert model.shape == (3, 10, 10)
    facts = {"size": [8, 8], "crop": "none", "background": [255, 255, 255], "pad": 1}
    assert facts.items() <= model.config["data"].items() and "channels" not in model.config["data"]
    expected = pad(load_dataset(f"folder:{flags}", "test", size=8, crop="none", background="white"), 1)
    assert set_for(model, f"folder:{flags}").digest == expected.digest
    assert set_for(model, expected).digest == expected.digest  # has the model's shape: unchanged
    wide = images(4, 3, 12, 18)
    assert torch.equal(
        set_for(model, wide).images,
        pad(fit_images(from_tensors(wide), OPTIONS(size=8, crop="none", background="white")), 1).images,
    )
    assert vaezoo.evaluate(model, f"folder:{flags}", samples=2).examples == 8
    with pytest.raises(ShapeError, match=r"expects \(3, 10, 10\).*size=\[10, 10\], channels='color'"):
        vaezoo.evaluate(model, load_dataset("digits", "test", size=10, channels="gray"), samples=0)
    gray = tmp_path / "gray"
    gray.mkdir()
    for number in range(2):
        Image.new("L", (30, 20), 90).save(gray / f"{number}.png")
    assert set_for(model, f"folder:{gray}", split="all").shape == (3, 10, 10)


@pytest.mark.filterwarnings("ignore:.*latents are active", "ignore:.*with transparency")
@pytest.mark.parametrize("way", ["key", "override", "name"])
def test_the_validation_folder_is_held_out(flags: Path, way: str) -> None:
    (flags / "val").mkdir()
    for number in range(3):
        Image.new("L", (12, 12), 50 * number).save(flags / "val" / f"{number}.png")
    name, own = f"folder:{flags}", {"validation": "split"} if way == "key" else {}
    recipe = read_recipe(
        {"variant": "vae", "data": {"name": name, "size": 8, "pad": 1, **own}, "train": {"steps": 1}},
        ["validation=split"] if way == "override" else [],
    )
    training, held = training_data(recipe, None, name if way == "name" else None, None)
    assert held is not None and (len(training), len(held), held.split) == (16, 3, "validation")
    expected = torch.nn.functional.pad((torch.arange(3) * 50).reshape(3, 1, 1, 1).expand(3, 3, 8, 8), [1] * 4)
    assert torch.equal(held.images, expected.to(torch.uint8))
    if way == "key":
        with pytest.raises(ConfigError, match="type Tensor, which have no splits"):
            training_data(recipe, images(), None, None)
        with pytest.raises(RecipeError, match=r"data\.validation: the validation split is part"):
            read_recipe(recipe.as_dict(), ["data.split=all"])


@pytest.mark.filterwarnings("ignore:.*latents are active")
def test_overrides_and_training_on_all(tmp_path: Path) -> None:
    run = vaezoo.train("vae-digits", "size=[12, 12]", "data.split=all", "steps=2", out=tmp_path / "run", trackers=())
    assert run.model.shape == (1, 12, 12) and run.model.config["data"]["split"] == "all"
    assert run.model.config["data"]["size"] == [12, 12]
    with pytest.warns(UserWarning, match="trained on all images of digits"):
        assert set_for(run.model, "digits").shape == (1, 12, 12)


def test_a_recipes_options_are_checked() -> None:
    base = {"variant": "vae", "train": {"steps": 1}}
    for given, match in (
        ({"size": 0}, r"data\.size: "),
        ({"size": [1, 2, 3]}, r"data\.size: "),
        ({"crop": "none"}, r"data\.crop: .*without a size"),
        ({"crop": "middle", "size": 8}, r"data\.crop: expected one of center, none"),
        ({"background": "whit"}, r"data\.background: .*name of a color"),
        ({"background": [0, 0, 300]}, r"data\.background"),
        ({"channels": "rgb"}, r"data\.channels: expected one of gray, color"),
        ({"split": "test"}, r"data\.split: expected one of train, all"),
    ):
        with pytest.raises(RecipeError, match=match):
            vaezoo.read_recipe({**base, "data": {"name": "digits", **given}})
    kept = vaezoo.read_recipe({**base, "data": {"name": "digits", "size": [8, 9], "background": [1, 2, 3]}})
    assert vaezoo.read_recipe(kept.as_dict()).digest == kept.digest and kept.data.size == [8, 9]
    assert type(kept).from_settings(kept.settings) == kept
