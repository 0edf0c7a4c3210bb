"""Tables: kinds of columns, layouts between frames and tensors, files, and errors that name row and column."""

import json
import math
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import vaezoo
from vaezoo.data import Column, TableLayout, as_dataset, concatenate, load_dataset, table
from vaezoo.errors import ConfigError, DataError, ShapeError, VaezooError

ROWS: dict[str, list[Any]] = {
    "height": [1.71, 1.65, None, 1.80, 1.92, 1.55],
    "income": [900.5, 1000.0, 1200.0, 1500.0, 2500.0, 40_000.0],
    "kids": [0, 2, 1, None, 3, 0],
    "balance": [-5_000_000, 12, 0, 7, 123_456_789, None],
    "town": ["Rom", "Ulm", None, "Rom", "Bern", "Ulm"],
    "smoker": ["no", "yes", "no", "no", None, "yes"],
    "member": [True, False, True, True, None, False],
    "born": [date(1990, 2, 28), date(1971, 12, 1), None, date(2004, 2, 29), date(1988, 6, 6), date(1999, 1, 1)],
    "seen": [datetime(2024, 5, 1, 12, 30, 5, 250), None, *[datetime(2023, 1, day, 1, 2, 3) for day in (1, 2, 3, 9)]],
}
KINDS = ["number", "positive", "count", "integer", "category", "flag", "flag", "date", "date"]
CSV = "a,town,n\n1.5,Rom,3\n,Ulm,4\n2.5,Rom,NaN\n"


def written(folder: Path, text: str, name: str = "t.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def assert_same(found: dict[str, list[Any]], wanted: dict[str, list[Any]]) -> None:
    """Exactly equal, of the same types, but for numbers, which are equal to rounding."""
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        if name in ("height", "income", "a"):
            numbers = [np.nan if each is None else each for each in found[name]]
            np.testing.assert_allclose(numbers, [np.nan if v is None else v for v in values], rtol=1e-12)
        else:
            assert found[name] == values, name
            assert [type(each) for each in found[name]] == [type(each) for each in values], name


def test_kinds_are_found_and_shown() -> None:
    rows = table(ROWS)
    layout = rows.layout
    assert layout is not None and [each.kind for each in layout.columns] == KINDS
    shown = repr(layout)
    assert "town     category  categorical        Bern, Rom, Ulm" in shown and "days from 1970" in shown
    assert rows.shape == (layout.width,) == (11,) and len(rows) == 6 and layout.places()["smoker"] == slice(7, 8)
    assert layout.families()[4] == "categorical-3"


def test_a_table_is_equal_after_the_way_to_a_tensor_and_back() -> None:
    rows = table(ROWS)
    assert rows.layout is not None and rows.images.dtype == torch.float64
    assert_same(rows.layout.frame(rows.images), ROWS)
    standard = rows.images[:, 0][~rows.images[:, 0].isnan()]
    assert abs(float(standard.mean())) < 1e-12 and float(standard.std(correction=0)) == pytest.approx(1.0)
    plain = json.loads(json.dumps(msgspec.to_builtins(rows.layout)))  # as a config holds it
    again = msgspec.convert(plain, TableLayout, strict=True)
    assert again == rows.layout and torch.equal(again.tensor(ROWS).nan_to_num(9.0), rows.images.nan_to_num(9.0))


def test_gaps_are_nan_in_all_elements_of_their_column() -> None:
    x = table(ROWS).images
    assert x[2, 4:7].isnan().all() and x[4, 7].isnan() and int(x.isnan().sum()) == 10
    assert x[0, 4:7].tolist() == [0.0, 1.0, 0.0]


def test_frames_of_pandas_have_their_types_again() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS)
    frame["kids"] = frame["kids"].astype("Int64")
    frame["small"] = np.arange(6, dtype=np.int8)
    frame["town"] = frame["town"].astype("category")
    rows = table(frame)
    assert rows.layout is not None and rows.layout.library == "pandas"
    again = rows.layout.frame(rows.images)
    pandas.testing.assert_frame_equal(again, frame)
    numbered = frame[["small"]].rename(columns={"small": 3})
    assert list(table(numbered).layout.frame(table(numbered).images).columns) == ["3"]


def test_categories_of_pandas_keep_their_order() -> None:
    pandas = pytest.importorskip("pandas")
    size = pandas.CategoricalDtype(["small", "medium", "large", "huge"], ordered=True)
    frame = pandas.DataFrame({
        "size": pandas.Series(["large", "small", None, "large"], dtype=size),  # two of four declared ones
        "level": pandas.Categorical([2, 1, 3, 2], categories=[3, 1, 2]),
        "answer": pandas.Categorical(["yes", "no", "no", None], categories=["yes", "no"]),
    })  # fmt: skip
    rows = table(frame)
    layout = rows.layout
    assert layout is not None and [each.kind for each in layout.columns] == ["category", "category", "flag"]
    assert layout.columns[0].values == ("small", "medium", "large", "huge") and layout.columns[1].values == (3, 1, 2)
    pandas.testing.assert_frame_equal(layout.frame(rows.images), frame)
    counts = table(frame[["level"]], kinds={"level": "count"})
    assert counts.layout is not None and counts.layout.frame(counts.images)["level"].tolist() == [2, 1, 3, 2]
    many = pandas.DataFrame({"a": pandas.Categorical(["b", "a"], categories=[*"cba", *map(str, range(200))])})
    found = table(many).layout
    assert found is not None and found.columns[0].values == ("b", "a")
    with pytest.raises(DataError, match="no value in column 'a'"):
        table({"a": pandas.Series([None, None], dtype=size), "b": [1.5, 2.0]})
    with pytest.raises(DataError, match="no value in column 'size'"):
        table(pandas.DataFrame({"size": pandas.Series([None, None], dtype=size)}))


def test_frames_of_polars_have_their_types_again() -> None:
    polars = pytest.importorskip("polars")
    from polars.testing import assert_frame_equal

    towns = polars.Enum(["Ulm", "Rom", "Bern", "Trier"])
    frame = polars.DataFrame(ROWS).with_columns(
        polars.col("kids").cast(polars.UInt8),
        polars.col("town").cast(towns),
        polars.col("smoker").cast(polars.Categorical),
    )
    rows = table(frame)
    assert rows.layout is not None and rows.layout.library == "polars"
    assert_frame_equal(rows.layout.frame(rows.images), frame)
    assert rows.layout.columns[4].values == ("Ulm", "Rom", "Bern", "Trier")
    assert_same(rows.layout.frame(rows.images, "columns"), ROWS)


def test_csv_files(tmp_path: Path) -> None:
    path = written(
        tmp_path, '\ufeffa;town;n;day;code\n1.5;Rom;3;2024-02-29;007\n;Ulm;4;;012\n2.5;"R;S";NaN;2024-03-01;007\n'
    )
    rows = load_dataset(f"table:{path}", "train")
    layout = rows.layout
    assert layout is not None and rows.name == "table:t.csv"
    assert [each.kind for each in layout.columns] == ["number", "category", "count", "date", "flag"]
    wanted = {"a": [1.5, None, 2.5], "town": ["Rom", "Ulm", "R;S"], "n": [3, 4, None],
              "day": [date(2024, 2, 29), None, date(2024, 3, 1)], "code": ["007", "012", "007"]}  # fmt: skip
    assert_same(layout.frame(rows.images), wanted)
    assert as_dataset(path).layout == layout
    more = written(tmp_path, "town;day;n;a;code\nUlm;2024-01-01;7;3;007\n", "more.csv")
    assert layout.values(layout.tensor(more))["day"] == [date(2024, 1, 1)]


def test_parquet_files(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(ROWS), tmp_path / "t.parquet")
    rows = load_dataset(f"table:{tmp_path / 't.parquet'}")
    assert rows.layout is not None and [each.kind for each in rows.layout.columns] == KINDS
    assert_same(rows.layout.frame(rows.images), ROWS)
    written(tmp_path, "no parquet", "bad.parquet")
    with pytest.raises(DataError, match=r"bad\.parquet"):
        load_dataset(f"table:{tmp_path / 'bad.parquet'}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n", r"line 3: got 1 values; expected 2, .*'b'"),
        ("a,b\n1,2,9\n", r"line 2: got 3 values; expected 2, .*'9'"),
        ("a,a\n1,2\n", "different names"),
        ("a,\n1,2\n", "different names"),
        ("", "different names"),
        ("a,b\n", "without rows"),
        ('a,b\n1,"2\n', "Could not read"),
        ("a,b\n1,\n2,\n", "no value in column 'b'"),
        ("a\n" + "\n".join(f"row {n}" for n in range(200)), "200 different texts in column 'a'"),
    ],
)
def test_bad_files_are_one_error(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(VaezooError, match=words):
        table(written(tmp_path, text))


def test_missing_and_unknown_files(tmp_path: Path) -> None:
    for name, words in (("no.csv", "Could not read"), ("t.xlsx", "ends in .csv")):
        with pytest.raises(DataError, match=words):
            load_dataset(f"table:{tmp_path / name}")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("town", "Paris", "'Paris' in column 'town', row 1; expected one of 'Bern', 'Rom', 'Ulm'"),
        ("smoker", "maybe", "'maybe' in column 'smoker', row 1"),
        ("height", "tall", "'tall' in column 'height', row 1; expected a finite number"),
        ("height", math.inf, "inf in column 'height', row 1"),
        ("income", -3.0, "-3.0 in column 'income', row 1; expected a number above 0"),
        ("kids", -1, "-1 in column 'kids', row 1; expected a whole number of at least 0"),
        ("kids", 1.5, "1.5 in column 'kids', row 1"),
        ("born", "1990", "'1990' in column 'born', row 1; expected a date"),
        ("member", 1, "1 in column 'member', row 1; expected one of False, True"),
    ],
)
def test_errors_name_row_and_column(column: str, value: object, words: str) -> None:
    layout = table(ROWS).layout
    assert layout is not None
    changed = {**ROWS, column: [ROWS[column][0], value, *ROWS[column][2:]]}
    with pytest.raises(DataError) as caught:
        layout.tensor(changed)
    assert words in str(caught.value)


def test_errors_in_files_name_the_line(tmp_path: Path) -> None:
    layout = table(written(tmp_path, CSV)).layout
    assert layout is not None
    with pytest.raises(DataError, match=r"'abc' in column 'n', row 1 \(line 3 of t\.csv\)"):
        layout.tensor(written(tmp_path, "a,town,n\n1,Rom,3\n2,Ulm,abc\n"))
    with pytest.raises(DataError, match=r"'Trier' in column 'town', row 0 \(line 2 of t\.csv\)"):
        layout.tensor(written(tmp_path, "a,town,n\n1,Trier,3\n"))


def test_missing_and_unknown_columns() -> None:
    layout = table(ROWS).layout
    assert layout is not None
    with pytest.raises(ShapeError, match="without 'kids' and with 'children'"):
        layout.tensor({("children" if name == "kids" else name): values for name, values in ROWS.items()})
    with pytest.raises(ShapeError, match=r"expected \(N, 11\)"):
        layout.frame(torch.zeros(2, 10))
    with pytest.raises(ShapeError, match="one length"):
        table({"a": [1, 2], "b": [1]})
    with pytest.raises(ShapeError, match="expected a data frame"):
        table([[1.0, 2.0]])
    with pytest.raises(DataError, match=r"values of type float, str in column 'a'"):
        table({"a": [1.0, "x"]})


def test_kinds_families_and_scales_can_be_set() -> None:
    rows = table(
        ROWS, kinds={"kids": "category", "income": "number"}, families={"income": "student-t"}, standardize="quantiles"
    )
    layout = rows.layout
    assert layout is not None
    kids, income = layout.columns[2], layout.columns[1]
    assert kids.values == (0, 1, 2, 3) and income.family == "student-t" and income.center == 1350.0
    low, high = np.quantile(ROWS["income"], [0.25, 0.75])
    assert income.scale == pytest.approx((high - low) / 1.34898, rel=1e-5)
    assert_same(layout.frame(rows.images), ROWS)
    for options, words in (
        ({"kinds": {"kid": "count"}}, "Did you mean 'kids'"),
        ({"kinds": {"kids": "ordinal"}}, "expected one of number"),
        ({"families": {"kids": "student-t"}}, "negative-binomial, poisson"),
        ({"standardize": "max"}, "'quantiles'"),
    ):
        with pytest.raises(ConfigError, match=words):
            table(ROWS, **options)  # type: ignore[arg-type]  # by name
    with pytest.raises(DataError, match="3 different values in column 'town'; expected 2"):
        table(ROWS, kinds={"town": "flag"})
    with pytest.raises(DataError, match="no dates"):
        table(ROWS, kinds={"kids": "date"})


def test_a_column_of_classes_is_the_context() -> None:
    rows = table({"a": [1.0, 2.0, -3.0], "kind": ["x", "y", "x"]}, labels="kind")
    assert rows.class_names == ("x", "y") and rows.labels is not None and rows.labels.tolist() == [0, 1, 0]
    assert rows.shape == (1,) and rows.layout is not None
    for labels, words in (("sort", "expected a column"), ("b", "a gap in the labels 'b', row 1")):
        with pytest.raises(VaezooError, match=words):
            table({"a": [1.0, 2.0], "b": ["x", None]}, labels=labels)


def test_parts_of_a_table_keep_the_layout() -> None:
    rows = table(ROWS)
    assert rows.subset([0, 2]).layout == rows.split_off(2, 0)[1].layout == (rows + rows).layout == rows.layout
    with pytest.raises(ShapeError, match="layout is"):
        concatenate([rows, table(ROWS, families={"height": "student-t"})])
    with pytest.raises(DataError, match="NaN"):  # of other data NaN are no gaps
        as_dataset(rows.images)


@pytest.mark.parametrize(
    "change",
    [{"kind": "ordinal"}, {"family": "poisson"}, {"values": ["a"]}, {"scale": 0.0}, {"path": "x"}, {"unit": "day"},
     {"name": ""}, {"scale": 1e301}],
)  # fmt: skip
def test_a_layout_from_a_file_is_validated(change: dict[str, object]) -> None:
    column = {"name": "a", "kind": "number", "dtype": "float64", "family": "gaussian"}
    assert msgspec.convert({"columns": [column]}, TableLayout).columns == (Column(**column),)  # type: ignore[arg-type]
    for columns in ([{**column, **change}], [column, column], []):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"columns": columns}, TableLayout)


def test_a_table_that_no_config_can_hold_is_refused() -> None:
    with pytest.raises(DataError, match="bytes"):
        table({f"a column with a long name, number {number}": [0.5, -1.0] for number in range(500)})
    with pytest.raises(DataError, match="printable"):
        table({"a": ["x\x00", "y"]})


def test_a_constant_column_and_one_without_a_name_for_its_type() -> None:
    rows = table({"a": [2.5, 2.5], "b": ["x", "x"]})
    assert rows.layout is not None and rows.layout.columns[1].values == ("x",)
    assert rows.layout.frame(rows.images) == {"a": [2.5, 2.5], "b": ["x", "x"]}
    assert vaezoo.create("vae", shape=2, likelihood={"name": "mixed", "columns": rows.layout.families()})(
        rows.batch([0])
    )
