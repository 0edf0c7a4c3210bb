"""Series of varying length: files, windows, standardization, splits by series."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vaezoo.data import SeriesLayout, as_dataset, concatenate, load_dataset, series
from vaezoo.data.time_series.reading import windows_of
from vaezoo.errors import ConfigError, DataError, ShapeError, VaezooError

RNG = np.random.default_rng(0)
RAGGED = [5.0 + 3.0 * RNG.standard_normal((2, length)) for length in (7, 12, 4)]


def test_channels_are_standardized_over_observed_values_and_padded() -> None:
    given = [each.copy() for each in RAGGED]
    given[0][1, 2] = np.nan
    found = series(given)
    assert found.images.shape == (3, 2, 12) and found.images.dtype == torch.float32 and found.groups is None
    values = np.concatenate(given, 1)
    mean, scale = np.nanmean(values, 1, keepdims=True), np.nanstd(values, 1, keepdims=True)
    assert isinstance(found.layout, SeriesLayout)
    np.testing.assert_allclose(found.layout.means, mean[:, 0], rtol=1e-12)
    np.testing.assert_allclose(found.layout.scales, scale[:, 0], rtol=1e-12)
    for row, each in zip(found.images.numpy(), given, strict=True):
        np.testing.assert_allclose(row[:, : each.shape[1]], (each - mean) / scale, rtol=1e-5, atol=1e-6)
        assert np.isnan(row[:, each.shape[1] :]).all()
    for again, each in zip(found.layout.series(found.images), given, strict=True):
        np.testing.assert_allclose(again.numpy(), each, rtol=1e-5)
    made = found.layout.series(torch.zeros(3, 2, 12), like=found.images)
    assert [tuple(each.shape) for each in made] == [(2, 7), (2, 12), (2, 4)]
    np.testing.assert_allclose(made[0].numpy(), np.broadcast_to(mean, (2, 7)), rtol=1e-12)
    assert [each.shape[1] for each in found.layout.series(torch.zeros(1, 2, 12))] == [12]
    with pytest.raises(ShapeError, match=r"expected \(3, 2, 12\)"):
        found.layout.series(torch.zeros(3, 2, 11))


def test_all_forms_of_a_file_give_the_same_series(tmp_path: Path) -> None:
    flat = [each[0] for each in RAGGED]
    garbage = np.full((3, 12), 1e9)
    for row, each in zip(garbage, flat, strict=True):
        row[: len(each)] = each
    np.savez(tmp_path / "keys.npz", *flat)
    np.savez(tmp_path / "lengths.npz", values=garbage, lengths=[7, 12, 4])
    np.savez_compressed(tmp_path / "channels.npz", values=garbage[:, None], lengths=np.array([7, 12, 4]))
    expected = series(flat)
    for name in ("keys", "lengths", "channels"):
        found = load_dataset(f"series:{tmp_path / name}.npz")
        assert torch.equal(found.images.nan_to_num(99.0), expected.images.nan_to_num(99.0))
        assert found.name == f"series:{name}.npz" and found.layout == expected.layout
    np.savez(tmp_path / "one.npz", x=garbage[:, :5])
    assert as_dataset(tmp_path / "one.npz").shape == (1, 5)
    assert series(garbage[:, None, :5]).shape == series(torch.from_numpy(garbage[:, :5])).shape == (1, 5)
    assert series({"a": flat[0], "b": flat[1]}).shape == (1, 12)


def test_labels_are_those_of_the_file_or_given(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", *RAGGED, labels=np.array(["sick", "well", "sick"]))
    found = series(tmp_path / "a.npz", window=4)
    assert found.class_names == ("sick", "well") and found.labels is not None and found.groups is not None
    assert found.labels.tolist() == [0, 0, 1, 1, 1, 0] and found.groups.tolist() == [0, 0, 1, 1, 1, 2]
    assert series(RAGGED, labels=[1, 0, 2]).classes == 3
    context = series(RAGGED, labels=np.ones((3, 5), np.float32), window=6).context
    assert context is not None and context.shape == (5, 5)
    with pytest.raises(ShapeError, match="2 labels for 3 series"):
        series(RAGGED, labels=[0, 1])


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(10, 4, 2), (10, 4, 4), (11, 4, 4), (3, 4, 1), (9, 4, 6), (4, 4, 9)]
)
def test_windows_cover_the_series(length: int, window: int, stride: int) -> None:
    values = torch.arange(float(length))[None]
    found = [each[0].tolist() for each in windows_of(values, window, stride)]
    starts, start = [0], stride
    while starts[-1] + window < length and start < length:
        starts.append(start)
        start += stride
    assert found == [list(map(float, range(start, min(start + window, length)))) for start in starts]
    if stride <= window:
        assert {each for part in found for each in part} == set(range(length))


def test_a_window_without_values_is_left_out() -> None:
    values = np.arange(12.0)
    values[4:8] = np.nan
    found = series([values], window=4)
    assert found.images.shape == (2, 1, 4) and found.groups is not None and len(found.groups) == 2


def test_windows_of_a_series_are_on_one_side_of_a_split() -> None:
    many = series([RNG.standard_normal(length) for length in RNG.integers(5, 60, 30)], window=8, stride=4)
    assert many.groups is not None
    for count in (1, 20, 60):
        rest, held = many.split_off(count, seed=3)
        assert rest.groups is not None and held.groups is not None and held.split == "validation"
        own, other = set(rest.groups.tolist()), set(held.groups.tolist())
        assert not own & other and own | other == set(range(30)) and len(rest) + len(held) == len(many)
        sizes = [int((held.groups == each).sum()) for each in other]
        assert count <= len(held) < count + max(sizes)
        assert torch.equal(held.groups, many.split_off(count, seed=3)[1].groups)
    joined = concatenate([many, many])
    assert joined.groups is not None and joined.groups.unique().numel() == 60
    with pytest.raises(DataError, match="windows of a series are not separated"):
        series([np.arange(40.0)], window=8).split_off(2, 0)


def test_further_series_take_the_layout_of_the_training_data(tmp_path: Path) -> None:
    train = series(RAGGED)
    test = series([RAGGED[0][:, :5]], layout=train.layout)
    assert test.layout == train.layout and torch.equal(test.images[0, :, :5], train.images[0, :, :5])
    assert series([RAGGED[1]], layout=series(RAGGED, window=4).layout).images.shape == (3, 2, 4)
    with pytest.raises(DataError, match="has 13 values; expected at most 12"):
        series([np.zeros((2, 13))], layout=train.layout)
    with pytest.raises(DataError, match="has 1 channels; expected 2"):
        series([np.zeros((1, 3))], layout=train.layout)


def saved(tmp_path: Path, **arrays: object) -> str:
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]  # object arrays too
    return f"series:{tmp_path}/bad.npz"


@pytest.mark.parametrize(
    ("arrays", "kind", "words"),
    [
        ({"x": np.array([np.zeros(2), np.zeros(3)], dtype=object)}, DataError, "Python objects.*numpy.savez"),
        ({"labels": np.zeros(2)}, DataError, "no array of series"),
        ({"values": np.zeros((2, 3)), "lengths": np.array([3, 4])}, DataError, "2 whole numbers from 1 to 3"),
        ({"values": np.zeros((2, 3)), "lengths": np.array([3])}, DataError, "2 whole numbers"),
        ({"values": np.zeros((2, 3)), "lengths": np.array([3, 1]), "x": np.zeros(2)}, DataError, "got the keys"),
        ({"x": np.array(["a", "b"])}, ShapeError, "expected numbers"),
        ({"x": np.zeros((2, 2, 2, 2))}, ShapeError, r"\(N, T\)"),
        ({"x": np.zeros((2, 3)), "labels": np.zeros(5, int)}, ShapeError, "labels of shape"),
        ({"a": np.zeros((2, 3)), "b": np.zeros(4)}, DataError, "channels first"),
        ({"a": np.array([1.0, np.inf]), "b": np.zeros(2)}, DataError, "infinite values in series 'a'"),
        ({"a": np.array([np.nan, np.nan]), "b": np.zeros(2)}, DataError, "without any value"),
        ({"a": np.zeros(0), "b": np.zeros(2)}, DataError, "without any value"),
        (
            {"a": np.array([[1.0, 2.0], [np.nan, np.nan]]), "b": np.full((2, 3), np.nan)},
            DataError,
            "series 'b' without",
        ),
        ({"a": np.array([1e300, -1e300]), "b": np.zeros(2)}, DataError, "too large"),
    ],
)
def test_bad_files_are_errors(tmp_path: Path, arrays: dict[str, object], kind: type[VaezooError], words: str) -> None:
    with pytest.raises(kind, match=words):
        series(saved(tmp_path, **arrays))


def test_other_bad_input_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(DataError, match=r"text\.npz"):
        series(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "renamed.npz")
    with pytest.raises(DataError, match="that numpy"):
        series(tmp_path / "renamed.npz")
    for source, words in (
        (tmp_path / "no.npz", "Could not read"),
        ("series:a.csv", r"ends in \.npz"),
        ([], "no series"),
    ):
        with pytest.raises(DataError, match=words):
            series(source)
    with pytest.raises(ShapeError, match=r"Pass one series as \[array\]"):
        series(np.zeros(5))
    for options, words in (
        ({"stride": 2}, "without a window"),
        ({"window": -1}, "window = -1"),
        ({"window": 2.5}, "2.5"),
    ):
        with pytest.raises(ConfigError, match=words):
            series(RAGGED, **options)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigError, match=r"windows \(4, 0\) of digits"):
        load_dataset("digits", window=4)
