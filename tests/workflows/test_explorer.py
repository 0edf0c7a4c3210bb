"""What the explorer computes: figures of an image, sliders, interpolations, maps, and the refusal of bad inputs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaezoo
from vaezoo.data import bundled_images
from vaezoo.errors import ContextError, DataError, ShapeError
from vaezoo.workflows import explorer, explorer_html
from vaezoo.workflows.explorer import Explored


def explored(variant: str = "vae", **options: object) -> Explored:
    """Returns a model with random weights and 28 x 28 images of MNIST."""
    torch.manual_seed(0)
    model = vaezoo.create(variant, shape=(1, 28, 28), **{"latent": 2, **options}).eval()
    model.config["data"] = {"name": "mnist", "binarize": "static"}
    data = vaezoo.data.binarize(bundled_images(), "static")
    obstacle = explorer.obstacle_of(model, data)
    return Explored(name=variant, model=model, examples=data, obstacle=obstacle)


@pytest.fixture(scope="module")
def plane() -> Explored:
    return explored()


@pytest.fixture(scope="module")
def beta() -> Explored:
    return explorer.prepare("beta-vae-mnist")


def test_the_rates_of_latents_sum_to_the_rate_and_equal_the_closed_form(beta: Explored) -> None:
    x = explorer.example(beta, 3)
    view = explorer.view(beta, x)
    elbo = beta.model(x)
    torch.testing.assert_close(view.rates.sum(), elbo.rate[0], rtol=1e-5, atol=1e-5)
    assert view.rate == pytest.approx(float(elbo.rate[0]), rel=1e-6)
    mean, deviation = view.mean.double(), view.deviation.double()
    exact = 0.5 * (deviation.square() + mean.square() - 1.0) - deviation.log()
    torch.testing.assert_close(view.rates.double(), exact, rtol=1e-4, atol=1e-5)
    posterior = beta.model.encode(x)
    assert torch.equal(view.mean, posterior.mean[0]) and torch.equal(view.deviation, posterior.stddev[0])


def test_the_rates_of_a_learned_conditional_prior_sum_to_the_rate() -> None:
    model = explored("cvae", context=10, latent=3)
    c = torch.tensor([4])
    x = explorer.example(model, 0)
    view = explorer.view(model, x, c)
    torch.testing.assert_close(view.rates.sum(), model.model(x, c).rate[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["flow-prior-vae", "vamp-vae", "iaf-vae"])
def test_a_rate_that_is_no_sum_over_latents_is_not_split(variant: str) -> None:
    model = explored(variant)
    view = explorer.view(model, explorer.example(model, 0))
    assert view.rates is None and "not a sum over latents" in explorer_html.table(view)


def test_the_error_is_the_distance_of_each_pixel_and_equal_inputs_give_equal_figures(beta: Explored) -> None:
    x = explorer.example(beta, 5)
    view, again = explorer.view(beta, x), explorer.view(beta, x)
    assert torch.equal(view.reconstruction, beta.model.reconstruct(x))
    assert torch.equal(view.error, (x - view.reconstruction).abs())
    assert view.distortion == again.distortion and view.bound == again.bound
    colors = explorer_html.heat(torch.tensor([0.0, 1.0, 3.0]).reshape(1, 1, 1, 3))
    assert colors.shape == (1, 3, 1, 3) and torch.equal(colors[..., 1], colors[..., 2])
    assert colors[..., 0].sum() < colors[..., 1].sum()


def test_untouched_sliders_give_the_reconstruction_and_moved_ones_set_their_latents(beta: Explored) -> None:
    x = explorer.example(beta, 7)
    view = explorer.view(beta, x)
    found = explorer.sliders(beta, view.z)
    assert [each.latent for each in found] == beta.active and len(found) == 8
    values = [each.value for each in found]
    assert torch.equal(explorer.at_sliders(beta, view.z, values), view.reconstruction)
    assert all(each.low <= each.value <= each.high and each.low <= -3 and each.high >= 3 for each in found)
    values[2] = 2.5
    z = view.z.clone()
    z[beta.active[2]] = 2.5
    torch.testing.assert_close(explorer.at_sliders(beta, view.z, values), beta.model.decode(z[None]).mean)


def test_sliders_are_those_of_the_latents_whose_centers_vary_most(beta: Explored) -> None:
    x = beta.examples.batch(slice(None))
    assert len(x) in (64, 1000)
    variances = beta.model.encode(x).mean.double().var(0)
    assert beta.active == variances.argsort(descending=True)[:8].tolist()


def test_an_interpolation_starts_and_ends_at_the_reconstructions(beta: Explored) -> None:
    made = explorer.between(beta, 3, 8, steps=5)
    ends = torch.cat([explorer.example(beta, 3), explorer.example(beta, 8)])
    torch.testing.assert_close(made[[0, -1]], beta.model.reconstruct(ends))
    middle = beta.model.encode(ends).mean.mean(0, keepdim=True)
    torch.testing.assert_close(made[2:3], beta.model.decode(middle).mean)


@pytest.mark.parametrize("index", [0, 17])
def test_a_click_on_a_point_of_the_map_decodes_to_the_reconstruction_of_its_example(
    plane: Explored, index: int
) -> None:
    picture = explorer.map_picture(plane)
    place = plane.latents[index]
    column, row = picture.pixel(place)
    torch.testing.assert_close(picture.place(column, row), place)
    made = explorer.at_place(plane, picture.place(column, row))
    torch.testing.assert_close(made, plane.model.reconstruct(explorer.example(plane, index)), rtol=1e-4, atol=1e-5)


def test_the_pixel_of_a_place_is_where_the_map_shows_it(plane: Explored) -> None:
    mark = plane.plane.project(plane.latents)[5]
    before, after = explorer.map_picture(plane), explorer.map_picture(plane, mark)
    assert before.image.shape == after.image.shape and before.limits == after.limits
    rows, columns = np.nonzero((before.image != after.image).any(-1))
    column, row = after.pixel(mark)
    assert abs(rows.mean() - row) < 2.0 and abs(columns.mean() - column) < 2.0


def test_a_place_outside_the_axes_is_moved_to_their_edge(plane: Explored) -> None:
    picture = explorer.map_picture(plane)
    left, _, _, top = picture.limits
    assert picture.place(0, 0).tolist() == pytest.approx([left, top])


def test_the_map_of_many_latents_is_their_principal_plane(beta: Explored) -> None:
    centered = beta.latents - beta.latents.mean(0)
    _, _, directions = torch.linalg.svd(centered, full_matrices=False)
    nearest = centered @ directions[:2].mT @ directions[:2] + beta.latents.mean(0)
    torch.testing.assert_close(beta.plane.latents(beta.plane.project(beta.latents)), nearest)
    made = explorer.at_place(beta, beta.plane.project(beta.latents)[0])
    torch.testing.assert_close(made, beta.model.decode(nearest[:1].float()).mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("variant", "options", "reason"),
    [
        ("vq-vae", {"latent": (4, 7, 7), "codes": 8}, "discrete codes"),
        ("categorical-vae", {"latent": (4, 5)}, "one-hot"),
        ("s-vae", {"latent": 3}, "sphere"),
    ],
)
def test_models_whose_latents_cannot_move_state_the_reason(
    variant: str, options: dict[str, object], reason: str
) -> None:
    model = explored(variant, **options)
    assert reason in model.obstacle
    x = explorer.example(model, 0)
    view = explorer.view(model, x)
    assert torch.equal(view.reconstruction, model.model.reconstruct(x)) and view.z is None
    assert explorer.samples(model, 0).shape == (16, 1, 28, 28)


def test_classes_are_chosen_by_name_or_are_those_of_the_image() -> None:
    model = explored("cvae", context=10)
    labels = bundled_images().labels
    assert explorer.context_for(model, "", 4).tolist() == [labels[4]]
    assert explorer.context_for(model, "7", 4).tolist() == [7]
    with pytest.raises(ContextError, match="Choose a class"):
        explorer.context_for(model, "", None)
    with pytest.raises(ContextError, match="Choose a class"):
        explorer.context_for(model, "eleven", None)
    seven = torch.tensor([7])
    assert torch.equal(explorer.samples(model, 3, seven), model.model.sample(16, 7, seed=3))
    turns = torch.arange(16) % 10
    assert torch.equal(explorer.samples(model, 3), model.model.sample(16, turns, seed=3))
    assert explorer.context_for(explored(), "7", 0) is None


def test_a_model_that_infers_the_class_takes_no_label() -> None:
    model = explored("m2-vae", context=10, latent=12)
    assert explorer.context_for(model, "", 0).tolist() == [-1]
    assert explorer.context_for(model, "3", None).tolist() == [3]
    view = explorer.view(model, explorer.example(model, 0), torch.tensor([-1]))
    assert view.reconstruction.shape == (1, 1, 28, 28)


def canvas(ink: np.ndarray) -> dict[str, object]:
    """Returns a drawing as the editor of the page gives it: black strokes on a transparent page."""
    page = np.zeros((*ink.shape, 4), np.uint8)
    page[..., 3] = ink
    return {"background": None, "layers": [], "composite": page}


def test_the_ink_of_a_drawing_is_its_darkness() -> None:
    ink = np.zeros((40, 60), np.uint8)
    ink[3:9, 5:7] = 200
    expected = torch.from_numpy(ink)[None]
    assert torch.equal(explorer.drawn(canvas(ink)), expected)
    on_white = np.repeat(255 - ink[..., None], 3, -1)
    assert torch.equal(explorer.drawn({"composite": on_white}), expected)
    opaque = np.concatenate([on_white, np.full((40, 60, 1), 255, np.uint8)], -1)
    assert torch.equal(explorer.drawn({"composite": opaque}), expected)


WHITE = np.full((8, 8, 3), 255, np.uint8)


@pytest.mark.parametrize(
    "given", [None, {}, {"composite": None}, {"composite": WHITE}, canvas(np.zeros((8, 8), np.uint8))]
)
def test_an_empty_canvas_is_refused(given: object) -> None:
    with pytest.raises(DataError, match="The canvas is empty"):
        explorer.drawn(given)


def test_a_drawing_is_centered_as_those_of_mnist() -> None:
    ink = torch.zeros(1, 100, 100, dtype=torch.uint8)
    ink[:, 5:65, 70:90] = 255  # 60 x 20, in a corner
    page = explorer.centered(ink)
    assert page.shape == (1, 84, 84) and page.sum() == ink.sum()
    rows, columns = (page[0].any(axis).nonzero().flatten() for axis in (1, 0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (12, 72, 32, 52)
    lopsided = ink.clone()
    lopsided[:, 5:35, 70:90] = 1  # nearly all of the mass is in the lower half
    rows = explorer.centered(lopsided)[0].any(1).nonzero().flatten()
    assert rows[0] == 0  # the center of mass cannot be in the middle without losing ink
    assert explorer.centered(lopsided).sum() == lopsided.sum()


def test_images_are_resized_padded_and_binarized_as_the_data_of_the_model(beta: Explored) -> None:
    gray = torch.randint(0, 256, (3, 56, 70), dtype=torch.uint8)
    made = explorer.fitted(beta, gray)
    assert made.shape == (1, 1, 28, 28) and set(made.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(made, explorer.fitted(beta, gray))
    light = explorer.fitted(beta, torch.full((1, 28, 28), 255, dtype=torch.uint8))
    assert (
        light.min() == 1.0
        and explorer.fitted(beta, torch.zeros(1, 9, 9, dtype=torch.uint8), inverted=True).min() == 1.0
    )
    plain = explored()
    plain.model.config["data"] = {"name": "other", "binarize": "none", "pad": 2}
    padded = explorer.fitted(plain, torch.full((1, 50, 50), 128, dtype=torch.uint8))
    assert torch.equal(padded[..., 2:26, 2:26], torch.full((1, 1, 24, 24), 128 / 255))
    assert padded.sum() == padded[..., 2:26, 2:26].sum()


def test_drawings_are_dark_on_white_for_models_of_color_images() -> None:
    model = vaezoo.create("vae", shape=(3, 8, 8), latent=2, likelihood="gaussian").eval()
    data = vaezoo.data.from_tensors(torch.rand(3, 3, 8, 8), split="test")
    colored = Explored(name="colored", model=model, examples=data)
    ink = torch.zeros(1, 16, 16, dtype=torch.uint8)
    ink[:, :8] = 255
    made = explorer.fitted(colored, ink, ink=True)
    assert made.shape == (1, 3, 8, 8) and made[..., :3, :].max() == 0.0 and made[..., 5:, :].min() == 1.0


def test_image_files_are_read_and_other_files_are_refused_without_their_folder(tmp_path: Path) -> None:
    pixels = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert torch.equal(explorer.uploaded(tmp_path / "image.png"), torch.from_numpy(pixels).permute(2, 0, 1))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text.png: got a file that cannot be read as an image") as caught:
        explorer.uploaded(tmp_path / "text.png")
    assert str(tmp_path) not in str(caught.value)


def test_models_without_test_images_on_this_machine_show_their_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAEZOO_HOME", str(tmp_path))
    mnist = explorer.prepare("vae-mnist")
    assert not mnist.note and torch.equal(mnist.examples.labels, bundled_images().labels)
    assert not explorer.prepare("vae-fashion-mnist").note
    monkeypatch.setattr(explorer, "BUNDLED", {})
    fashion = explorer.prepare("vae-fashion-mnist")
    assert "its own samples" in fashion.note and len(fashion.examples) == explorer.IMAGES
    assert explorer.view(fashion, explorer.example(fashion, 0)).z is not None


def test_models_of_tables_are_refused(tmp_path: Path) -> None:
    vaezoo.save(vaezoo.create("vae", shape=(30,), latent=2, likelihood="gaussian"), tmp_path / "table")
    with pytest.raises(ShapeError, match="expected images"):
        explorer.prepare(str(tmp_path / "table"))


def test_html_shows_the_figures_and_escapes_texts(beta: Explored) -> None:
    view = explorer.view(beta, explorer.example(beta, 1))
    text = explorer_html.summary(view, "<b>mine</b>")
    assert "&lt;b&gt;mine" in text and "<b>mine" not in text and text.count("data:image/png;base64,") == 3
    assert f"rate <b>{view.rate:.2f}</b>" in text
    assert explorer_html.number(-1.5) == "−1.50" and explorer_html.number(float("-inf")) == "–"
    rows = explorer_html.table(view)
    first = int(view.rates.argmax())
    assert rows.index(f"<td>z{first}</td>") == rows.index("<td>z")  # the largest rate is the first row
    assert explorer_html.note("") == "" and "&lt;" in explorer_html.note("<")
