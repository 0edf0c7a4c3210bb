"""Pictures are read back from disk and compared pixel by pixel with the images they show."""

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from vaezoo import pictures
from vaezoo.core import VAE, Part
from vaezoo.data import bundled_images
from vaezoo.errors import CheckpointError, ContextError, DataError, ShapeError
from vaezoo.pictures import latents
from vaezoo.pictures.sheet import GAP, MARGIN, columns_of_slide, wrapped
from vaezoo.registry import create


def read(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.asarray(Image.open(path).convert("RGB"))


def tile(path: Path, shape: tuple[int, int], row: int, column: int, scale: int) -> Tensor:
    """Returns a tile of a picture without labels, as (H, W, 3) in [0, 1], one value for each original pixel."""
    high, wide = shape[0] * scale, shape[1] * scale
    y, x = MARGIN + 1 + row * (high + 2 + GAP), MARGIN + 1 + column * (wide + 2 + GAP)
    block = read(path)[y : y + high, x : x + wide].reshape(shape[0], scale, shape[1], scale, 3)
    assert (block == block[:, :1, :, :1]).all(), "enlarged pixels are not uniform"
    return torch.from_numpy(block[:, 0, :, 0].copy()).double() / 255


def enlarged(image: Tensor, scale: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return image[0].mul(255).round().byte().numpy().repeat(scale, 0).repeat(scale, 1)


def ends_with(path: Path, image: Tensor, scale: int) -> bool:
    """Returns whether the last tile of a picture is `image` (1, H, W)."""
    wanted, page = enlarged(image, scale), read(path)[: -MARGIN - 1, : -MARGIN - 1, 0]
    return bool((page[-wanted.shape[0] :, -wanted.shape[1] :] == wanted).all())


def contains(path: Path, image: Tensor, scale: int) -> bool:
    """Returns whether `image` (1, H, W) is anywhere in a picture."""
    wanted, page = enlarged(image, scale), read(path)[..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(page, wanted.shape)[:, :, :: scale * 3, :: scale * 3]
    spots = np.argwhere((windows == wanted[:: scale * 3, :: scale * 3]).all((2, 3)))
    return any((page[y : y + len(wanted), x : x + wanted.shape[1]] == wanted).all() for y, x in spots)


@pytest.fixture(scope="module")
def model() -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create("vae", shape=(1, 8, 8), latent=4).eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class TestGrid:
    @pytest.mark.parametrize("shape", [(8, 8), (3, 5, 9)])
    def test_shows_every_pixel(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(1))
        path = pictures.grid(images, tmp_path / "new" / "grid.png", columns=3, scale=4)
        assert path == tmp_path / "new" / "grid.png"
        for number, image in enumerate(images):
            colors = (image if image.dim() == 3 else image[None]).expand(3, -1, -1).permute(1, 2, 0)
            found = tile(path, (shape[-2], shape[-1]), number // 3, number % 3, 4)
            assert torch.equal(found, (colors.double() * 255).round() / 255)
        last = read(path)[-MARGIN - shape[-2] * 4 : -MARGIN, -MARGIN - shape[-1] * 4 :]
        assert (last == 255).all(), "the last row is short"

    def test_shows_two_channels_next_to_each_other(self, tmp_path: Path) -> None:
        images = torch.rand(1, 2, 8, 8)
        found = tile(pictures.grid(images, tmp_path / "two.png", scale=3), (8, 17), 0, 0, 3)
        levels = (images[0].double() * 255).round() / 255
        assert torch.equal(found[:, :8, 0], levels[0])
        assert torch.equal(found[:, 9:, 0], levels[1])

    @pytest.mark.parametrize(
        ("image", "levels"),
        [
            (torch.tensor([[-3.0, 0.5], [1.0, 7.0]]), [0, 128, 255, 255]),
            (torch.tensor([[0, 85], [170, 255]], dtype=torch.uint8), [0, 85, 170, 255]),
            (torch.eye(2).bool(), [255, 0, 0, 255]),
        ],
        ids=["clipped", "bytes", "bits"],
    )
    def test_levels(self, tmp_path: Path, image: Tensor, levels: list[int]) -> None:
        found = tile(pictures.grid(image[None], tmp_path / "a.png", scale=2), (2, 2), 0, 0, 2)[..., 0]
        assert (found * 255).flatten().tolist() == levels

    def test_text_is_around_the_tiles_and_independent_of_settings(
        self, tmp_path: Path, x: Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        texts = {"labels": [f"class ${k}$" for k in range(6)], "title": "A title, with $ and é"}
        plain = read(pictures.grid(x, tmp_path / "plain.png", columns=3, scale=8))
        before = dict(matplotlib.rcParams)
        path = pictures.grid(x, tmp_path / "text.png", columns=3, scale=8, **texts)  # type: ignore[arg-type]
        assert dict(matplotlib.rcParams) == before
        assert contains(path, x[0], 8) and ends_with(tmp_path / "plain.png", x[5], 8)
        page = read(path)
        assert page.shape[0] > plain.shape[0] + 3 * 20
        border = np.concatenate([page[: MARGIN - 4], page[4 - MARGIN :]])
        assert (border == 255).all()
        for key, value in {"savefig.bbox": "tight", "figure.facecolor": "black", "image.origin": "lower"}.items():
            monkeypatch.setitem(matplotlib.rcParams, key, value)
        again = pictures.grid(x, tmp_path / "again.png", columns=3, scale=8, **texts)  # type: ignore[arg-type]
        assert path.read_bytes() == again.read_bytes()

    @pytest.mark.parametrize("shape", [(6,), (6, 30), (0, 1, 8, 8), (2, 4, 8, 8), (1, 2, 3, 4, 5)])
    def test_refuses_other_tensors(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match="expected"):
            pictures.grid(torch.zeros(shape), tmp_path / "grid.png")

    def test_names_the_images_that_are_not_finite(self, tmp_path: Path, x: Tensor) -> None:
        broken = x.clone()
        broken[3, 0, 2, 2] = math.nan
        with pytest.raises(DataError, match=r"\[3\]"):
            pictures.grid(broken, tmp_path / "grid.png")

    def test_refuses_bad_labels_columns_scales_and_paths(self, tmp_path: Path, x: Tensor) -> None:
        with pytest.raises(DataError, match="2 labels for 6 images"):
            pictures.grid(x, tmp_path / "grid.png", labels=["a", "b"])
        for wrong in ({"columns": 0}, {"scale": 0}, {"scale": 10**5}):
            with pytest.raises(ShapeError, match="expected at"):
                pictures.grid(x, tmp_path / "grid.png", **wrong)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=r"\.png"):
            pictures.grid(x, tmp_path / "grid.jpg")
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(CheckpointError, match="another path"):
            pictures.grid(x, tmp_path / "file" / "grid.png")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (8, 4), (16, 8), (60, 10), (64, 8), (100, 10), (7, 4)])
def test_rows_are_full_where_possible(count: int, columns: int) -> None:
    assert columns_of_slide(count, 1.0) == columns


def test_long_labels_are_wrapped_and_then_cut() -> None:
    assert wrapped("short", 100, 20.0) == "short"
    assert wrapped("vamp-vae-mnist", 120, 20.0) == "vamp-vae-\nmnist"
    lines = wrapped("much too long for such a narrow tile " * 5, 120, 20.0).splitlines()
    assert len(lines) == 3 and lines[-1].endswith("…") and max(map(len, lines)) <= 10


class TestReconstructions:
    def test_shows_originals_above_reconstructions(self, tmp_path: Path, model: VAE, x: Tensor) -> None:
        path = pictures.reconstructions(model, x[:1], tmp_path / "r.png")
        assert ends_with(path, model.reconstruct(x[:1])[0], 21)
        many = torch.rand(20, 1, 8, 8)
        path = pictures.reconstructions(model, many, tmp_path / "r.png")
        high, wide, _ = read(path).shape
        assert wide > high and contains(path, many[-1], 21) and contains(path, model.reconstruct(many)[-1], 21)

    def test_restores_modes_and_random_state(self, tmp_path: Path, x: Tensor) -> None:
        mixed = create("vae", shape=(1, 8, 8), latent=2).train()
        mixed.decoder.eval()
        modes = [module.training for module in mixed.modules()]
        state = torch.get_rng_state()
        pictures.reconstructions(mixed, x, tmp_path / "r.png")
        pictures.samples(mixed, 4, tmp_path / "s.png")
        assert [module.training for module in mixed.modules()] == modes
        assert torch.equal(torch.get_rng_state(), state)

    def test_conditional_models_need_a_context(self, tmp_path: Path, x: Tensor) -> None:
        conditional = create("vae", shape=(1, 8, 8), latent=2, context=3)
        with pytest.raises(ContextError):
            pictures.reconstructions(conditional, x, tmp_path / "r.png")
        c = torch.arange(6) % 3
        assert pictures.reconstructions(conditional, x, tmp_path / "r.png", c).exists()
        assert pictures.samples(conditional, 4, tmp_path / "s.png", c=1).exists()
        assert pictures.traversal(conditional, x[:1], tmp_path / "t.png", c=c[:1]).exists()
        assert pictures.interpolation(conditional, x.reshape(3, 2, 1, 8, 8), tmp_path / "i.png", c=c[:3]).exists()

    def test_refuses_models_of_tables(self, tmp_path: Path) -> None:
        tabular, rows = create("vae", shape=(30,), latent=2), torch.rand(4, 30)
        for draw in (
            lambda: pictures.reconstructions(tabular, rows, tmp_path / "p.png"),
            lambda: pictures.samples(tabular, 4, tmp_path / "p.png"),
            lambda: pictures.traversal(tabular, rows[:1], tmp_path / "p.png"),
            lambda: pictures.interpolation(tabular, rows.reshape(2, 2, 30), tmp_path / "p.png"),
        ):
            with pytest.raises(ShapeError, match="table"):
                draw()
        assert not list(tmp_path.iterdir())


def test_samples_depend_on_the_seed_alone(tmp_path: Path, model: VAE) -> None:
    paths = [pictures.samples(model, 4, tmp_path / f"{k}.png", seed=seed) for k, seed in enumerate([3, 3, 1])]
    one, same, other = (path.read_bytes() for path in paths)
    assert one == same != other
    assert ends_with(paths[0], model.sample(4, seed=3)[-1], 21)


class Pixel(nn.Module):
    """Decodes z (..., 4) to logits of 2 x 2 pixels, one for each latent, the second latent has no effect."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 0.0, 2.0, 1.0]))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return (z * self.weight).reshape(*z.shape[:-1], 1, 1, 2, 2)


class Odd(Distribution):
    """A prior without moments, optionally with a sphere as its support."""

    arg_constraints = {}  # noqa: RUF012  # declared so in torch

    def __init__(self, on_sphere: bool) -> None:
        self.on_sphere = on_sphere
        super().__init__(torch.Size(), torch.Size((4,)), validate_args=False)

    @property
    def support(self) -> constraints.Constraint | None:
        return Sphere() if self.on_sphere else None

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  # torch's own default
        return 5.0 + 2.0 * torch.randn(*sample_shape, 4)


class Sphere(constraints.Constraint):
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value.norm(dim=-1) - 1).abs() < 1e-4


class OddPrior(Part):
    def __init__(self, on_sphere: bool) -> None:
        super().__init__()
        self.on_sphere = on_sphere

    def forward(self, c: Tensor | None = None) -> Distribution:
        return Odd(self.on_sphere)


class TestTraversal:
    @pytest.fixture
    def pixels(self) -> VAE:
        small = create("vae", shape=(1, 2, 2), latent=4).eval()
        small.decoder.network = Pixel()
        return small

    def test_moves_one_latent_through_the_prior(self, tmp_path: Path, pixels: VAE) -> None:
        path = pictures.traversal(pixels, torch.ones(1, 1, 2, 2), tmp_path / "t.png", dims=[3], span=2.0, steps=3)
        center = pixels.encode(torch.ones(1, 1, 2, 2)).mean[0].detach()
        center[3] = 2.0
        assert ends_with(path, pixels.decode(center[None]).mean[0].detach(), 84)

    def test_puts_the_most_active_latents_first(self, pixels: VAE) -> None:
        ends = torch.tensor([[-1.0], [1.0]]).expand(2, 4)
        assert latents.most_active(pixels, torch.zeros(1, 4), None, ends) == [2, 3, 0, 1]
        assert latents.most_active(pixels, torch.zeros(1, 4), None, ends, most=2) == [2, 3]

    def test_estimates_the_moments_of_a_prior_that_has_none(self, tmp_path: Path, pixels: VAE) -> None:
        mean, deviation = latents.moments(Odd(on_sphere=False), torch.device("cpu"))
        torch.testing.assert_close(mean, torch.full((4,), 5.0), atol=0.25, rtol=0)
        torch.testing.assert_close(deviation, torch.full((4,), 2.0), atol=0.15, rtol=0)
        odd = pixels.replace(prior=OddPrior(on_sphere=False))
        assert pictures.traversal(odd, torch.ones(1, 1, 2, 2), tmp_path / "t.png").exists()

    def test_refuses_latents_that_cannot_change_alone(self, tmp_path: Path, pixels: VAE, x: Tensor) -> None:
        sphere = pixels.replace(prior=OddPrior(on_sphere=True))
        with pytest.raises(ShapeError, match="outside it"):
            pictures.traversal(sphere, torch.ones(1, 1, 2, 2), tmp_path / "t.png")
        codes = create("vq-vae", shape=(1, 8, 8), latent=(4, 2, 2), codes=8)
        with pytest.raises(ShapeError, match="discrete codes"):
            pictures.traversal(codes, x[:1], tmp_path / "t.png")
        with pytest.raises(ShapeError, match="discrete codes"):
            pictures.interpolation(codes, x[None, :2], tmp_path / "t.png")

    @pytest.mark.parametrize("wrong", [{"dims": [4]}, {"dims": [-1]}, {"dims": []}, {"steps": 1}, {"span": 0.0}])
    def test_refuses_bad_arguments(self, tmp_path: Path, model: VAE, x: Tensor, wrong: dict[str, object]) -> None:
        with pytest.raises(ShapeError, match="expected"):
            pictures.traversal(model, x[:1], tmp_path / "t.png", **wrong)  # type: ignore[arg-type]  # one of several
        with pytest.raises(ShapeError, match="expected 1 image"):
            pictures.traversal(model, x, tmp_path / "t.png")

    def test_latents_on_a_grid_have_flat_indices(self, tmp_path: Path, x: Tensor) -> None:
        conv = {"name": "conv", "channels": [8, 8]}
        grid = create("vae", shape=(1, 8, 8), latent=(3, 2, 2), backbone=conv)
        assert pictures.traversal(grid, x[:1], tmp_path / "t.png", dims=[11, 0], steps=2).exists()


class TestInterpolation:
    def test_starts_and_ends_with_originals_and_reconstructions(self, tmp_path: Path, model: VAE, x: Tensor) -> None:
        path = pictures.interpolation(model, x[:2][None], tmp_path / "i.png", steps=2)
        assert ends_with(path, x[1], 21) and contains(path, x[0], 21)
        assert all(contains(path, image, 21) for image in model.reconstruct(x[:2]))

    @pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 3, 1, 8, 8), (1,)])
    def test_refuses_other_shapes(self, tmp_path: Path, model: VAE, shape: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match="pairs of shape"):
            pictures.interpolation(model, torch.zeros(shape), tmp_path / "i.png")


class TestComparison:
    def test_shows_a_grid_for_each_model(self, tmp_path: Path) -> None:
        digits = bundled_images().batch(torch.arange(16))
        path = pictures.comparison(
            {"original": digits, "darker": digits / 2, "a model with a long name": digits}, tmp_path / "c.png"
        )
        high, wide, _ = read(path).shape
        assert 2 < wide / high < 4
        assert ends_with(path, digits[-1], 5)

    def test_shows_a_row_for_each_of_many_models(self, tmp_path: Path) -> None:
        digits = bundled_images().batch(torch.arange(4))
        sets = {f"model {number}": digits * (number / 13) for number in range(14)}
        path = pictures.comparison(sets, tmp_path / "c.png")
        high, wide, _ = read(path).shape
        assert high > 2 * wide
        assert ends_with(path, digits[-1], 2)

    @pytest.mark.parametrize("other", [(5, 1, 8, 8), (6, 1, 9, 8), (6, 3, 8, 8)])
    def test_refuses_images_of_different_shapes(self, tmp_path: Path, x: Tensor, other: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match="one shape"):
            pictures.comparison({"a": x, "b": torch.zeros(other)}, tmp_path / "c.png")
        with pytest.raises(ShapeError, match="one shape"):
            pictures.comparison({}, tmp_path / "c.png")


class TestCurves:
    history = [  # noqa: RUF012  # read only
        {"step": 100.0, "bound": -500.0, "distortion": 490.0, "rate": 10.0},
        {"step": 200.0, "bound": -120.0, "distortion": 100.0, "rate": 20.0},
        {"step": 200.0, "validation_bound": -130.0, "validation_distortion": 109.0, "validation_rate": 21.0},
    ]

    def test_draws_a_panel_for_each_finite_quantity(self, tmp_path: Path) -> None:
        three = read(pictures.curves(self.history, tmp_path / "three.png"))
        no_density = [{**line, "bound": None} if "bound" in line else {"step": 200} for line in self.history]
        two = read(pictures.curves(no_density, tmp_path / "two.png"))
        infinite = [{**line, "bound": -math.inf, "validation_bound": -math.inf} for line in self.history]
        also_two = read(pictures.curves(infinite, tmp_path / "also.png"))
        assert three.shape[1] > two.shape[1] == also_two.shape[1]
        assert three.std() > 0
        assert pictures.curves(self.history[:1], tmp_path / "one.png").exists()

    @pytest.mark.parametrize("history", [[], [{"bound": 1.0}], [{"step": 1.0, "rate": math.nan}]])
    def test_refuses_a_history_without_finite_values(self, tmp_path: Path, history: list[dict[str, float]]) -> None:
        with pytest.raises(DataError, match=r"without a step"):
            pictures.curves(history, tmp_path / "c.png")
