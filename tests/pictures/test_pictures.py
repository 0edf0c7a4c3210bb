"""Pictures are read back from disk and compared pixel by pixel with what they should show."""

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
from vaezoo.errors import CheckpointError, ContextError, DataError, ShapeError, VaezooError
from vaezoo.pictures import latents
from vaezoo.pictures.sheet import GAP, LARGEST, MARGIN, columns_of_slide, enlarged, fitted, tiles_of
from vaezoo.registry import create


def read(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.asarray(Image.open(path).convert("RGB"))


def tile(path: Path, shape: tuple[int, int], row: int, column: int, scale: int, top: int = MARGIN) -> Tensor:
    """Returns a tile of a picture without row labels, as (H, W, 3) in [0, 1], one value for each original pixel."""
    page = read(path)
    high, wide = shape[0] * scale, shape[1] * scale
    y, x = top + row * (high + GAP), MARGIN + column * (wide + GAP)
    block = page[y : y + high, x : x + wide].reshape(shape[0], scale, shape[1], scale, 3)
    assert (block == block[:, :1, :, :1]).all(), "enlarged pixels are not flat"
    return torch.from_numpy(block[:, 0, :, 0].copy()).double() / 255


def ends_with(path: Path, image: Tensor, scale: int) -> bool:
    """Says whether the last tile of a picture is `image` (1, H, W)."""
    wanted = image[0].mul(255).round().byte().numpy().repeat(scale, 0).repeat(scale, 1)
    page = read(path)[:-MARGIN, :-MARGIN]
    return bool((page[-wanted.shape[0] :, -wanted.shape[1] :, 0] == wanted).all())


@pytest.fixture(scope="module")
def model() -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create("vae", shape=(1, 8, 8), latent=4).eval()


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class TestGrid:
    @pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 8, 8), (3, 5, 9)])
    def test_shows_every_pixel(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        images = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1))
        path = pictures.grid(images, tmp_path / "new" / "grid.png", columns=3, scale=4)
        assert path == tmp_path / "new" / "grid.png"
        for number, image in enumerate(images):
            colours = (image if image.dim() == 3 else image[None]).expand(3, -1, -1).permute(1, 2, 0)
            found = tile(path, (shape[-2], shape[-1]), number // 3, number % 3, 4)
            assert torch.equal(found, (colours.double() * 255).round() / 255)

    def test_shows_two_channels_side_by_side(self, tmp_path: Path) -> None:
        images = torch.rand(1, 2, 8, 8)
        found = tile(pictures.grid(images, tmp_path / "two.png", scale=3), (8, 17), 0, 0, 3)
        levels = (images[0].double() * 255).round() / 255
        assert torch.equal(found[:, :8, 0], levels[0])
        assert torch.equal(found[:, 9:, 0], levels[1])

    def test_clips_values_and_takes_bytes_and_bits(self, tmp_path: Path) -> None:
        wild = torch.tensor([[[-3.0, 0.5], [1.0, 7.0]]])
        assert tile(pictures.grid(wild, tmp_path / "a.png", scale=2), (2, 2), 0, 0, 2)[..., 0].flatten().tolist() == [
            0.0,
            128 / 255,
            1.0,
            1.0,
        ]
        exact = torch.arange(4, dtype=torch.uint8).reshape(1, 2, 2) * 85
        assert torch.equal(
            tile(pictures.grid(exact, tmp_path / "b.png", scale=2), (2, 2), 0, 0, 2)[..., 0] * 255, exact[0]
        )
        bits = torch.eye(2).bool()[None]
        assert torch.equal(
            tile(pictures.grid(bits, tmp_path / "c.png", scale=2), (2, 2), 0, 0, 2)[..., 0], bits[0].double()
        )

    def test_the_last_row_may_be_short(self, tmp_path: Path, x: Tensor) -> None:
        page = read(pictures.grid(x[:5], tmp_path / "grid.png", columns=3, scale=4))
        assert (page[MARGIN + 32 + GAP : -MARGIN, -MARGIN - 32 :] == 255).all()

    def test_words_enlarge_the_page_and_leave_the_tiles_alone(self, tmp_path: Path, x: Tensor) -> None:
        plain = read(pictures.grid(x, tmp_path / "plain.png", columns=3, scale=8))
        labels = [f"class {k}" for k in range(6)]
        words = read(
            pictures.grid(x, tmp_path / "words.png", columns=3, scale=8, labels=labels, title="A title, with $ and é")
        )
        assert words.shape[0] > plain.shape[0] + 3 * 20
        first = plain[MARGIN : MARGIN + 64, MARGIN : MARGIN + 64]
        assert any((words[y : y + 64, MARGIN : MARGIN + 64] == first).all() for y in range(MARGIN, 120))
        assert (words[:MARGIN] == 255).all(), "the margin stays free"

    def test_equal_inputs_give_equal_bytes(self, tmp_path: Path, x: Tensor) -> None:
        files = [pictures.grid(x, tmp_path / f"{k}.png", title="twice") for k in range(2)]
        assert files[0].read_bytes() == files[1].read_bytes()

    def test_matplotlib_is_left_alone(self, tmp_path: Path, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
        before = dict(matplotlib.rcParams)
        path = pictures.grid(x, tmp_path / "a.png", title="a", labels=["$x$"] * 6)
        assert dict(matplotlib.rcParams) == before
        monkeypatch.setitem(matplotlib.rcParams, "savefig.bbox", "tight")
        monkeypatch.setitem(matplotlib.rcParams, "figure.facecolor", "black")
        again = pictures.grid(x, tmp_path / "b.png", title="a", labels=["$x$"] * 6)
        assert path.read_bytes() == again.read_bytes()

    @pytest.mark.parametrize("shape", [(6,), (6, 30), (0, 1, 8, 8), (2, 4, 8, 8), (1, 2, 3, 4, 5)])
    def test_refuses_what_is_no_stack_of_images(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match="expected"):
            pictures.grid(torch.zeros(shape), tmp_path / "grid.png")

    def test_names_the_images_that_are_not_finite(self, tmp_path: Path, x: Tensor) -> None:
        broken = x.clone()
        broken[3, 0, 2, 2] = math.nan
        with pytest.raises(DataError, match=r"\[3\]"):
            pictures.grid(broken, tmp_path / "grid.png")

    def test_refuses_bad_words_columns_scales_and_paths(self, tmp_path: Path, x: Tensor) -> None:
        with pytest.raises(DataError, match="2 labels for 6 images"):
            pictures.grid(x, tmp_path / "grid.png", labels=["a", "b"])
        with pytest.raises(ShapeError, match="columns = 0"):
            pictures.grid(x, tmp_path / "grid.png", columns=0)
        with pytest.raises(ShapeError, match="scale = 0"):
            pictures.grid(x, tmp_path / "grid.png", scale=0)
        with pytest.raises(ShapeError, match="Show fewer"):
            pictures.grid(x, tmp_path / "grid.png", scale=10**5)
        with pytest.raises(DataError, match=r"\.png"):
            pictures.grid(x, tmp_path / "grid.jpg")
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(CheckpointError, match="another path"):
            pictures.grid(x, tmp_path / "file" / "grid.png")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


class TestLayout:
    @pytest.mark.parametrize(
        ("count", "columns"), [(1, 1), (2, 2), (8, 4), (16, 8), (60, 10), (64, 8), (100, 10), (7, 4)]
    )
    def test_rows_are_full_where_they_can_be(self, count: int, columns: int) -> None:
        assert columns_of_slide(count, 1.0) == columns

    def test_long_texts_are_made_smaller_and_then_cut(self) -> None:
        short, long = fitted([(0, 100, 0, "short"), (100, 200, 0, "much too long for its narrow place")], 24.0)
        assert short.text == "short"
        assert short.size == long.size < 24.0
        assert long.text.endswith("…")
        assert long.text[:4] == "much"
        assert fitted([(0, 1000, 0, "short")], 24.0)[0].size == 24.0

    def test_pictures_stay_within_bounds(self) -> None:
        assert enlarged(tiles_of(torch.zeros(3, 1, 64, 64), "x"), None, 3).shape == (3, 192, 192, 3)
        with pytest.raises(ShapeError, match=f"{LARGEST:,}"):
            enlarged(np.zeros((40_000, 28, 28, 3), np.uint8), None, 200)


class TestReconstructions:
    def test_shows_originals_above_what_the_model_makes(self, tmp_path: Path, model: VAE, x: Tensor) -> None:
        path = pictures.reconstructions(model, x[:1], tmp_path / "r.png")
        assert ends_with(path, model.reconstruct(x[:1])[0], 21)

    def test_wraps_into_pairs_of_rows(self, tmp_path: Path, model: VAE) -> None:
        wide = read(pictures.reconstructions(model, torch.rand(20, 1, 8, 8), tmp_path / "r.png"))
        assert wide.shape[1] / wide.shape[0] > 1

    def test_puts_the_modes_and_the_random_state_back(self, tmp_path: Path, x: Tensor) -> None:
        mixed = create("vae", shape=(1, 8, 8), latent=2).train()
        mixed.decoder.eval()
        modes = [module.training for module in mixed.modules()]
        state = torch.get_rng_state()
        pictures.reconstructions(mixed, x, tmp_path / "r.png")
        pictures.samples(mixed, 4, tmp_path / "s.png")
        assert [module.training for module in mixed.modules()] == modes
        assert torch.equal(torch.get_rng_state(), state)

    def test_wants_a_context_where_the_model_does(self, tmp_path: Path, x: Tensor) -> None:
        conditional = create("vae", shape=(1, 8, 8), latent=2, context=3)
        with pytest.raises(ContextError):
            pictures.reconstructions(conditional, x, tmp_path / "r.png")
        c = torch.arange(6) % 3
        assert pictures.reconstructions(conditional, x, tmp_path / "r.png", c).exists()
        assert pictures.samples(conditional, 4, tmp_path / "s.png", c=1).exists()
        assert pictures.traversal(conditional, x[:1], tmp_path / "t.png", c=c[:1]).exists()
        assert pictures.interpolation(conditional, x.reshape(3, 2, 1, 8, 8), tmp_path / "i.png", c=c[:3]).exists()

    def test_tables_have_no_pictures(self, tmp_path: Path) -> None:
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


class TestSamples:
    def test_are_those_of_the_model(self, tmp_path: Path, model: VAE) -> None:
        path = pictures.samples(model, 4, tmp_path / "s.png", seed=3)
        assert ends_with(path, model.sample(4, seed=3)[-1], 21)

    def test_another_seed_is_another_picture(self, tmp_path: Path, model: VAE) -> None:
        one, same, other = (
            pictures.samples(model, 4, tmp_path / f"{k}.png", seed=seed).read_bytes()
            for k, seed in enumerate([0, 0, 1])
        )
        assert one == same != other


class Pixel(nn.Module):
    """Decodes z (..., 4) to logits of 2 x 2 pixels, one for each latent, the second latent without effect."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 0.0, 2.0, 1.0]))

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        return (z * self.weight).reshape(*z.shape[:-1], 1, 1, 2, 2)


class Odd(Distribution):
    """A prior that does not know its own moments, or one that lives on a sphere."""

    arg_constraints = {}  # noqa: RUF012  # as torch declares it

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
        centre = pixels.encode(torch.ones(1, 1, 2, 2)).mean[0].detach()
        centre[3] = 2.0
        assert ends_with(path, pixels.decode(centre[None]).mean[0].detach(), 84)

    def test_puts_the_most_active_latents_first(self, pixels: VAE) -> None:
        ends = torch.tensor([[-1.0], [1.0]]).expand(2, 4)
        assert latents.most_active(pixels, torch.zeros(1, 4), None, ends) == [2, 3, 0, 1]
        assert latents.most_active(pixels, torch.zeros(1, 4), None, ends, most=2) == [2, 3]

    def test_draws_the_moments_of_a_prior_that_does_not_know_them(self, tmp_path: Path, pixels: VAE) -> None:
        mean, deviation = latents.moments(Odd(on_sphere=False), torch.device("cpu"))
        torch.testing.assert_close(mean, torch.full((4,), 5.0), atol=0.25, rtol=0)
        torch.testing.assert_close(deviation, torch.full((4,), 2.0), atol=0.15, rtol=0)
        odd = pixels.replace(prior=OddPrior(on_sphere=False))
        assert pictures.traversal(odd, torch.ones(1, 1, 2, 2), tmp_path / "t.png").exists()

    def test_refuses_latents_that_cannot_move_alone(self, tmp_path: Path, pixels: VAE, x: Tensor) -> None:
        sphere = pixels.replace(prior=OddPrior(on_sphere=True))
        with pytest.raises(ShapeError, match="cannot be moved alone"):
            pictures.traversal(sphere, torch.ones(1, 1, 2, 2), tmp_path / "t.png")
        codes = create("vq-vae", shape=(1, 8, 8), latent=(4, 2, 2), codes=8)
        with pytest.raises(ShapeError, match="discrete codes"):
            pictures.traversal(codes, x[:1], tmp_path / "t.png")
        with pytest.raises(ShapeError, match="discrete codes"):
            pictures.interpolation(codes, x[None, :2], tmp_path / "t.png")

    @pytest.mark.parametrize("wrong", [{"dims": [4]}, {"dims": [-1]}, {"dims": []}, {"steps": 1}, {"span": 0.0}])
    def test_refuses_what_is_not_there(self, tmp_path: Path, model: VAE, x: Tensor, wrong: dict[str, object]) -> None:
        with pytest.raises(ShapeError, match="expected"):
            pictures.traversal(model, x[:1], tmp_path / "t.png", **wrong)  # type: ignore[arg-type]  # one of several
        with pytest.raises(ShapeError, match="expected 1 image"):
            pictures.traversal(model, x, tmp_path / "t.png")

    def test_latents_on_a_grid_are_numbered_flat(self, tmp_path: Path, x: Tensor) -> None:
        conv = {"name": "conv", "channels": [8, 8]}
        grid = create("vae", shape=(1, 8, 8), latent=(3, 2, 2), backbone=conv)
        assert pictures.traversal(grid, x[:1], tmp_path / "t.png", dims=[11, 0], steps=2).exists()


class TestInterpolation:
    def test_goes_from_one_reconstruction_to_the_other(self, tmp_path: Path, model: VAE, x: Tensor) -> None:
        path = pictures.interpolation(model, x[:2][None], tmp_path / "i.png", steps=2)
        assert ends_with(path, x[1], 21)
        page, made = read(path), model.reconstruct(x[:2])
        for image in made:
            wanted = image[0].mul(255).round().byte().numpy().repeat(21, 0).repeat(21, 1)
            row = page[-MARGIN - 168 : -MARGIN, :, 0]
            assert any((row[:, at : at + 168] == wanted).all() for at in range(row.shape[1] - 168))

    @pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3, 3, 1, 8, 8), (1,)])
    def test_wants_pairs(self, tmp_path: Path, model: VAE, shape: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match="pairs of shape"):
            pictures.interpolation(model, torch.zeros(shape), tmp_path / "i.png")


class TestComparison:
    def test_puts_grids_side_by_side(self, tmp_path: Path) -> None:
        digits = bundled_images().batch(torch.arange(16))
        path = pictures.comparison(
            {"original": digits, "darker": digits / 2, "a model with a long name": digits}, tmp_path / "c.png"
        )
        high, wide, _ = read(path).shape
        assert 2 < wide / high < 4
        assert ends_with(path, digits[-1], 5)

    def test_gives_each_of_many_models_a_row(self, tmp_path: Path) -> None:
        digits = bundled_images().batch(torch.arange(4))
        sets = {f"model {number}": digits * (number / 13) for number in range(14)}
        path = pictures.comparison(sets, tmp_path / "c.png")
        high, wide, _ = read(path).shape
        assert high > 2 * wide
        assert ends_with(path, digits[-1], 2)

    @pytest.mark.parametrize("other", [(5, 1, 8, 8), (6, 1, 9, 8), (6, 3, 8, 8)])
    def test_wants_the_same_images_everywhere(self, tmp_path: Path, x: Tensor, other: tuple[int, ...]) -> None:
        with pytest.raises(ShapeError, match="one shape"):
            pictures.comparison({"a": x, "b": torch.zeros(other)}, tmp_path / "c.png")
        with pytest.raises(ShapeError, match="one shape"):
            pictures.comparison({}, tmp_path / "c.png")


class TestCurves:
    history = [  # noqa: RUF012  # never changed
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

    @pytest.mark.parametrize("history", [[], [{"step": 1.0}], [{"bound": 1.0}], [{"step": 1.0, "rate": math.nan}]])
    def test_needs_something_to_draw(self, tmp_path: Path, history: list[dict[str, float]]) -> None:
        with pytest.raises(DataError, match=r"without a step"):
            pictures.curves(history, tmp_path / "c.png")

    def test_one_line_is_enough(self, tmp_path: Path) -> None:
        assert pictures.curves(self.history[:1], tmp_path / "c.png").exists()


def test_every_error_is_one_of_ours(tmp_path: Path, model: VAE) -> None:
    with pytest.raises(VaezooError):
        pictures.reconstructions(model, torch.zeros(2, 1, 9, 9), tmp_path / "r.png")
    with pytest.raises(VaezooError):
        pictures.samples(model, 0, tmp_path / "s.png")
