"""Plots of numbers: the plane of a map, its classes, lines of equal sums, and refused input."""

from pathlib import Path

import pytest
import torch
from sklearn.decomposition import PCA

from vaezoo.errors import DataError, ShapeError
from vaezoo.pictures import lines
from vaezoo.pictures.plots import draw_sums, latent_map, named_points, panel, plane_of


def test_two_latents_are_the_plane_itself() -> None:
    z = torch.randn(5, 2)
    places, names = plane_of(z)
    assert torch.equal(places, z) and names == ("latent 0", "latent 1")


def test_more_latents_are_their_principal_components() -> None:
    """Those of scikit-learn, apart from signs; ours do not depend on the order of the rows."""
    torch.manual_seed(0)
    z = (torch.randn(50, 6) @ torch.randn(6, 6)).double()
    places, names = plane_of(z)
    fitted = PCA(2).fit(z.numpy())
    wanted = torch.from_numpy(fitted.transform(z.numpy()))
    torch.testing.assert_close(places.abs(), wanted.abs())
    assert names[0] == f"principal component 1 ({100 * fitted.explained_variance_ratio_[0]:.0f} % of the variance)"
    torch.testing.assert_close(plane_of(z.flip(0))[0].flip(0), places)


def test_maps_have_a_color_for_each_class(tmp_path: Path) -> None:
    z, labels = torch.randn(30, 3), torch.arange(30) % 3
    plain = latent_map(z, tmp_path / "plain.png").read_bytes()
    colored = latent_map(z, tmp_path / "colored.png", labels, ("cat", "dog", "fox")).read_bytes()
    assert plain[:4] == colored[:4] == b"\x89PNG" and plain != colored
    assert latent_map(z, tmp_path / "again.png", labels, ("cat", "dog", "fox")).read_bytes() == colored
    assert latent_map(z[:, :1], tmp_path / "one.png").exists()
    many = latent_map(z, tmp_path / "many.png", torch.arange(30))  # more classes than colors
    assert many.exists()


@pytest.mark.parametrize(
    ("z", "labels", "error", "words"),
    [
        (torch.randn(4, 2, 2), None, ShapeError, "flatten"),
        (torch.randn(2, 3), None, ShapeError, "N ≥ 3"),
        (torch.randn(5, 3), torch.arange(4), ShapeError, r"expected \(5,\)"),
        (torch.full((5, 3), torch.nan), None, DataError, "NaN"),
    ],
)
def test_other_latents_are_refused(
    z: torch.Tensor, labels: torch.Tensor | None, error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        latent_map(z, tmp_path / "map.png", labels)


def test_lines_of_equal_sums_pass_through_points_of_that_sum() -> None:
    _, axes = panel(4.0, 3.0)
    axes.plot([10.0, 30.0], [60.0, 95.0], "o")
    before = axes.get_xlim(), axes.get_ylim()
    draw_sums(axes)
    lines = [line for line in axes.get_lines() if line.get_linestyle() == "--"]
    totals = [{round(x + y, 6) for x, y in zip(*line.get_data(), strict=True)} for line in lines]
    assert all(len(each) == 1 for each in totals) and len(totals) >= 5
    steps = {round(b - a, 6) for a, b in zip(sorted(map(min, totals))[:-1], sorted(map(min, totals))[1:], strict=True)}
    assert len(steps) == 1 and (axes.get_xlim(), axes.get_ylim()) == before
    assert {text.get_text() for text in axes.texts} <= {f"{min(each):.0f}" for each in totals}


def test_named_points_need_a_point(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no points"):
        named_points({}, tmp_path / "plane.png", x="rate", y="distortion")
    points = {"a": (10.0, 80.0), "b": (20.0, 70.0)}
    path = named_points(points, tmp_path / "plane.png", x="rate", y="distortion", sums=True)
    other = named_points(points, tmp_path / "other.png", x="rate", y="distortion", logarithmic=True)
    assert path.read_bytes()[:4] == b"\x89PNG" and path.read_bytes() != other.read_bytes()


def test_series_are_drawn_as_lines_over_each_other(tmp_path: Path) -> None:
    series = [torch.randn(2, 9), torch.full((2, 4), torch.nan), torch.randn(2, 30)]
    sets, titles = {"one": series, "two": series}, ["a", "b", "$c$"]
    first, second = (lines(sets, tmp_path / name, titles).read_bytes() for name in ("a.png", "b.png"))
    assert first == second != lines({"one": series}, tmp_path / "c.png").read_bytes()
    for bad in ({"one": series, "two": series[:1]}, {"one": []}, {}, {"one": series * 100}):
        with pytest.raises(DataError, match="expected 1 to 256 each"):
            lines(bad, tmp_path / "no.png")
