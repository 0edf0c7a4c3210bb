"""Pictures are read back from disk and compared pixel by pixel with the images they show."""

import math

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.distributions import Distribution, constraints

from vaezoo import pictures
from vaezoo.core import Part
from vaezoo.data import bundled_images
from vaezoo.errors import CheckpointError, ContextError, DataError, ShapeError
from vaezoo.pictures import latents
from vaezoo.pictures.sheet import GAP, MARGIN, columns_of_slide, wrapped
from vaezoo.registry import create


def read(path):
    return np.asarray(Image.open(path).convert("RGB"))


def tile(path, shape, row, column, scale):
    """Returns a tile of a picture without labels, as (H, W, 3) in [0, 1], one value for each original pixel."""
    high, wide = shape[0] * scale, shape[1] * scale
    y, x = MARGIN + 1 + row * (high + 2 + GAP), MARGIN + 1 + column * (wide + 2 + GAP)
    block = read(path)[y : y + high, x : x + wide].reshape(shape[0], scale, shape[1], scale, 3)
    assert (block == block[:, :1, :, :1]).all(), "enlarged pixels are not uniform"
    return torch.from_numpy(block[:, 0, :, 0].copy()).double() / 255


def contains(path, image, scale, last=False):
    """Returns whether `image` (1, H, W) is anywhere in a picture, or is its last tile."""
    wanted = image[0].mul(255).round().byte().numpy().repeat(scale, 0).repeat(scale, 1)
    page = read(path)[..., 0]
    if last:
        return bool((page[: -MARGIN - 1, : -MARGIN - 1][-len(wanted) :, -wanted.shape[1] :] == wanted).all())
    windows = np.lib.stride_tricks.sliding_window_view(page, wanted.shape)[:, :, :: scale * 3, :: scale * 3]
    spots = np.argwhere((windows == wanted[:: scale * 3, :: scale * 3]).all((2, 3)))
    return any((page[y : y + len(wanted), x : x + wanted.shape[1]] == wanted).all() for y, x in spots)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create("vae", shape=(1, 8, 8), latent=4).eval()


@pytest.fixture(scope="module")
def x():
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "picture.png"


class TestGrid:
    @pytest.mark.parametrize("shape", [(8, 8), (3, 5, 9)])
    def test_shows_every_pixel(self, path, shape):
        images = torch.rand(5, *shape)
        assert pictures.grid(images, path, columns=3, scale=4) == path
        for number, image in enumerate(images):
            colors = (image if image.dim() == 3 else image[None]).expand(3, -1, -1).permute(1, 2, 0)
            found = tile(path, shape[-2:], number // 3, number % 3, 4)
            assert torch.equal(found, (colors.double() * 255).round() / 255)
        last = read(path)[-MARGIN - shape[-2] * 4 : -MARGIN, -MARGIN - shape[-1] * 4 :]
        assert (last == 255).all(), "the last row is short"

    def test_shows_two_channels_next_to_each_other(self, path):
        images = torch.rand(1, 2, 8, 8)
        found = tile(pictures.grid(images, path, scale=3), (8, 17), 0, 0, 3)[..., 0]
        levels = (images[0].double() * 255).round() / 255
        assert torch.equal(found[:, :8], levels[0]) and torch.equal(found[:, 9:], levels[1])

    @pytest.mark.parametrize(
        ("image", "levels"),
        [
            (torch.tensor([[-3.0, 0.5], [1.0, 7.0]]), [0, 128, 255, 255]),
            (torch.tensor([[0, 85], [170, 255]], dtype=torch.uint8), [0, 85, 170, 255]),
            (torch.eye(2).bool(), [255, 0, 0, 255]),
        ],
        ids=["clipped", "bytes", "bits"],
    )
    def test_levels(self, path, image, levels):
        found = tile(pictures.grid(image[None], path, scale=2), (2, 2), 0, 0, 2)[..., 0]
        assert (found * 255).flatten().tolist() == levels

    def test_text_is_around_the_tiles_and_independent_of_settings(self, tmp_path, path, x, monkeypatch):
        options = {"columns": 3, "scale": 8}
        texts = {"labels": [f"class ${k}$" for k in range(6)], "title": "A title, with $ and é"}
        plain = pictures.grid(x, path, **options)
        before = dict(matplotlib.rcParams)
        labeled = pictures.grid(x, tmp_path / "new" / "text.png", **options, **texts)
        assert dict(matplotlib.rcParams) == before
        assert contains(labeled, x[0], 8) and contains(plain, x[5], 8, last=True)
        page = read(labeled)
        assert page.shape[0] > read(plain).shape[0] + 3 * 20
        assert (np.concatenate([page[: MARGIN - 4], page[4 - MARGIN :]]) == 255).all()
        for key, value in {"savefig.bbox": "tight", "figure.facecolor": "black", "image.origin": "lower"}.items():
            monkeypatch.setitem(matplotlib.rcParams, key, value)
        assert labeled.read_bytes() == pictures.grid(x, path, **options, **texts).read_bytes()

    def test_refuses_other_tensors_labels_columns_scales_and_paths(self, tmp_path, path, x):
        for shape in [(6,), (6, 30), (0, 1, 8, 8), (2, 4, 8, 8), (1, 2, 3, 4, 5)]:
            with pytest.raises(ShapeError, match="expected"):
                pictures.grid(torch.zeros(shape), path)
        broken = x.clone()
        broken[3, 0, 2, 2] = math.nan
        with pytest.raises(DataError, match=r"\[3\]"):
            pictures.grid(broken, path)
        with pytest.raises(DataError, match="2 labels for 6 images"):
            pictures.grid(x, path, labels=["a", "b"])
        for wrong in ({"columns": 0}, {"scale": 0}, {"scale": 10**5}):
            with pytest.raises(ShapeError, match="expected at"):
                pictures.grid(x, path, **wrong)
        with pytest.raises(DataError, match=r"\.png"):
            pictures.grid(x, tmp_path / "grid.jpg")
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(CheckpointError, match="another path"):
            pictures.grid(x, tmp_path / "file" / "grid.png")
        assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_rows_are_full_where_possible_and_long_labels_are_wrapped_and_then_cut():
    counts = {1: 1, 2: 2, 7: 4, 8: 4, 16: 8, 60: 10, 64: 8, 100: 10}
    assert {count: columns_of_slide(count, 1.0) for count in counts} == counts
    assert wrapped("short", 100, 20.0) == "short"
    assert wrapped("vamp-vae-mnist", 120, 20.0) == "vamp-vae-\nmnist"
    lines = wrapped("much too long for such a narrow tile " * 5, 120, 20.0).splitlines()
    assert len(lines) == 3 and lines[-1].endswith("…") and max(map(len, lines)) <= 10


def test_reconstructions_are_below_the_originals(path, model, x):
    assert contains(pictures.reconstructions(model, x[:1], path), model.reconstruct(x[:1])[0], 21, last=True)
    many = torch.rand(20, 1, 8, 8)
    high, wide, _ = read(pictures.reconstructions(model, many, path)).shape
    assert wide > high and contains(path, many[-1], 21) and contains(path, model.reconstruct(many)[-1], 21)


def test_modes_and_random_state_are_kept(path, x):
    mixed = create("vae", shape=(1, 8, 8), latent=2).train()
    mixed.decoder.eval()
    modes, state = [module.training for module in mixed.modules()], torch.get_rng_state()
    pictures.reconstructions(mixed, x, path)
    pictures.samples(mixed, 4, path)
    assert [module.training for module in mixed.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_conditional_models_need_a_context_and_models_of_tables_are_refused(path, x):
    conditional, c = create("vae", shape=(1, 8, 8), latent=2, context=3), torch.arange(6) % 3
    with pytest.raises(ContextError):
        pictures.reconstructions(conditional, x, path)
    pictures.reconstructions(conditional, x, path, c)
    pictures.samples(conditional, 4, path, c=1)
    pictures.traversal(conditional, x[:1], path, c=c[:1])
    pictures.interpolation(conditional, x.unflatten(0, (3, 2)), path, c=c[:3])
    tabular, rows = create("vae", shape=(30,), latent=2), torch.rand(4, 30)
    for draw, data in (
        (pictures.reconstructions, rows),
        (pictures.samples, 4),
        (pictures.traversal, rows[:1]),
        (pictures.interpolation, rows.unflatten(0, (2, 2))),
    ):
        with pytest.raises(ShapeError, match="table"):
            draw(tabular, data, path)


def test_samples_depend_on_the_seed_alone(path, model):
    one, same, other = (pictures.samples(model, 4, path, seed=seed).read_bytes() for seed in (3, 3, 1))
    assert one == same != other
    assert contains(path, model.sample(4, seed=1)[-1], 21, last=True)


class Pixel(nn.Module):
    """Decodes z (..., 4) to logits of 2 x 2 pixels, one for each latent; the second latent has no effect."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 0.0, 2.0, 1.0]))

    def forward(self, z, c=None):
        return (z * self.weight).reshape(*z.shape[:-1], 1, 1, 2, 2)


class Sphere(constraints.Constraint):
    event_dim = 1

    def check(self, value):
        return (value.norm(dim=-1) - 1).abs() < 1e-4


class Odd(Distribution):
    """A prior without moments, optionally with a sphere as its support."""

    def __init__(self, on_sphere=False):
        super().__init__(torch.Size(), torch.Size((4,)), validate_args=False)
        self.on_sphere = on_sphere

    @property
    def support(self):
        return Sphere() if self.on_sphere else constraints.real_vector

    def sample(self, sample_shape=()):
        return 5.0 + 2.0 * torch.randn(*sample_shape, 4)


class OddPrior(Part):
    def __init__(self, on_sphere):
        super().__init__()
        self.on_sphere = on_sphere

    def forward(self, c=None):
        return Odd(self.on_sphere)


class TestTraversal:
    ones = torch.ones(1, 1, 2, 2)

    @pytest.fixture
    def pixels(self):
        small = create("vae", shape=(1, 2, 2), latent=4).eval()
        small.decoder.network = Pixel()
        return small

    def test_moves_one_latent_through_the_prior(self, path, pixels):
        pictures.traversal(pixels, self.ones, path, dims=[3], span=2.0, steps=3)
        center = pixels.encode(self.ones).mean[0].detach()
        center[3] = 2.0
        assert contains(path, pixels.decode(center[None]).mean[0].detach(), 84, last=True)

    def test_begins_with_the_original(self, path, pixels):
        original = torch.tensor([[[[0.2, 0.8], [0.6, 0.4]]]])
        pictures.traversal(pixels, original, path, dims=[3, 1], steps=3)
        assert contains(path, original[0], 84)

    def test_puts_the_most_active_latents_first(self, pixels):
        ends = torch.tensor([[-1.0], [1.0]]).expand(2, 4)
        assert latents.most_active(pixels, torch.zeros(1, 4), None, ends).tolist() == [2, 3, 0, 1]

    def test_estimates_the_moments_of_a_prior_that_has_none(self, path, pixels):
        mean, deviation = latents.moments(Odd())
        torch.testing.assert_close(mean, torch.full((4,), 5.0), atol=0.25, rtol=0)
        torch.testing.assert_close(deviation, torch.full((4,), 2.0), atol=0.15, rtol=0)
        pictures.traversal(pixels.replace(prior=OddPrior(on_sphere=False)), self.ones, path)

    def test_refuses_latents_that_cannot_change_alone(self, path, pixels, x):
        with pytest.raises(ShapeError, match="outside it"):
            pictures.traversal(pixels.replace(prior=OddPrior(on_sphere=True)), self.ones, path)
        codes = create("vq-vae", shape=(1, 8, 8), latent=(4, 2, 2), codes=8)
        for draw, data in ((pictures.traversal, x[:1]), (pictures.interpolation, x[None, :2])):
            with pytest.raises(ShapeError, match="discrete codes"):
                draw(codes, data, path)

    def test_refuses_bad_arguments_and_takes_flat_indices_of_latents_on_a_grid(self, path, model, x):
        for wrong in ({"dims": [4]}, {"dims": [-1]}, {"dims": []}, {"steps": 1}, {"span": 0.0}):
            with pytest.raises(ShapeError, match="expected"):
                pictures.traversal(model, x[:1], path, **wrong)
        with pytest.raises(ShapeError, match="expected 1 image"):
            pictures.traversal(model, x, path)
        conv = {"name": "conv", "channels": [8, 8]}
        grid = create("vae", shape=(1, 8, 8), latent=(3, 2, 2), backbone=conv)
        pictures.traversal(grid, x[:1], path, dims=[11, 0], steps=2)


def test_interpolation_starts_and_ends_with_originals_and_reconstructions(path, model, x):
    pictures.interpolation(model, x[:2][None], path, steps=2)
    assert contains(path, x[1], 21, last=True) and contains(path, x[0], 21)
    assert all(contains(path, image, 21) for image in model.reconstruct(x[:2]))
    for shape in [(2, 1, 8, 8), (3, 3, 1, 8, 8), (1,)]:
        with pytest.raises(ShapeError, match="pairs of shape"):
            pictures.interpolation(model, torch.zeros(shape), path)


def test_comparison_shows_a_grid_for_each_model_or_a_row_for_each_of_many(path, x):
    digits = bundled_images().batch(torch.arange(16))
    pictures.comparison({"original": digits, "darker": digits / 2, "a model with a long name": digits}, path)
    high, wide, _ = read(path).shape
    assert 2 < wide / high < 4 and contains(path, digits[-1], 5, last=True)
    pictures.comparison({f"model {number}": digits[:4] * (number / 13) for number in range(14)}, path)
    high, wide, _ = read(path).shape
    assert high > 2 * wide and contains(path, digits[3], 2, last=True)
    for sets in ({}, *({"a": x, "b": torch.zeros(other)} for other in [(5, 1, 8, 8), (6, 1, 9, 8), (6, 3, 8, 8)])):
        with pytest.raises(ShapeError, match="one shape"):
            pictures.comparison(sets, path)


def test_curves_have_a_panel_for_each_finite_quantity(path):
    history = [
        {"step": 100.0, "bound": -500.0, "distortion": 490.0, "rate": 10.0},
        {"step": 200.0, "bound": -120.0, "distortion": 100.0, "rate": 20.0},
        {"step": 200.0, "validation_bound": -130.0, "validation_distortion": 109.0, "validation_rate": 21.0},
    ]
    three = read(pictures.curves(history, path))
    no_density = [{**line, "bound": None} if "bound" in line else {"step": 200} for line in history]
    two = read(pictures.curves(no_density, path))
    infinite = [{**line, "bound": -math.inf, "validation_bound": -math.inf} for line in history]
    also_two = read(pictures.curves(infinite, path))
    assert three.shape[1] > two.shape[1] == also_two.shape[1] and three.std() > 0
    pictures.curves(history[:1], path)
    for empty in ([], [{"bound": 1.0}], [{"step": 1.0, "rate": math.nan}]):
        with pytest.raises(DataError, match="without a step"):
            pictures.curves(empty, path)
