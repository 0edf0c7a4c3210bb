"""`as_dataset`: every form of data gives the same examples."""

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as image
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset, random_split

import vaezoo
from vaezoo.data import Dataset, EndlessDataset, ImageOptions, StreamedDataset, as_dataset, from_tensors, load_dataset
from vaezoo.errors import DataError, ShapeError
from vaezoo.evaluation import test_sets

X = (torch.arange(6 * 12) * 3 % 256).to(torch.uint8).reshape(6, 1, 3, 4)
Y = torch.tensor([0, 1, 2, 0, 1, 2])
WANTED = from_tensors((X, Y))


class Items(torch.utils.data.Dataset[object]):
    """Map-style; never raises IndexError."""

    def __init__(self, form: str = "pair") -> None:
        self.form = form

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> object:
        x, y = X[index % len(X)], int(Y[index % len(X)])
        return {"pair": (x, y), "dict": {"image": x, "label": y}, "list": [x.numpy(), y]}[self.form]


class Sized(IterableDataset[object]):
    def __len__(self) -> int:
        return len(X)

    def __iter__(self) -> Iterator[object]:
        return iter(zip(X, Y, strict=True))


class Stream(IterableDataset[object]):
    """Yields `count` examples and counts those that were read."""

    def __init__(self, count: int | None = 6) -> None:
        self.count, self.read = count, 0

    def __iter__(self) -> Iterator[object]:
        for i in range(self.count) if self.count is not None else itertools.count():
            self.read += 1
            yield X[i % 6], int(Y[i % 6])


def first_of(batch: list[object]) -> object:
    return torch.stack([each[0] for each in batch]), torch.tensor([each[1] for each in batch])  # type: ignore[index]


PAIRS = TensorDataset(X, Y)
FORMS = {
    "tensors": (X, Y),
    "arrays": (X.numpy(), Y.numpy().astype(np.int16)),
    "array and list": (X.numpy(), Y.tolist()),
    "list of tensors and labels": (list(X), Y),
    "dict of arrays": {"x": X.numpy(), "y": Y},
    "TensorDataset": PAIRS,
    "pairs": Items(),
    "dicts": Items("dict"),
    "lists": Items("list"),
    "list of pairs": [Items()[i] for i in range(6)],
    "list of dicts": [Items("dict")[i] for i in range(6)],
    "list of Pillow images": ([image.fromarray(each[0].numpy()) for each in X], Y),
    "list of pairs of Pillow images": [(image.fromarray(x[0].numpy()), int(y)) for x, y in zip(X, Y, strict=True)],
    "Subset": Subset(PAIRS, range(6)),
    "ConcatDataset": ConcatDataset([Subset(PAIRS, [0, 1]), Subset(PAIRS, [2, 3, 4, 5])]),
    "own Subset": Subset(WANTED, range(6)),
    "own ConcatDataset": ConcatDataset([WANTED.subset(slice(2)), WANTED.subset(slice(2, None))]),
    "iterable": Stream(),
    "iterable with a length": Sized(),
    "generator": (pair for pair in zip(X, Y, strict=True)),
    "DataLoader": DataLoader(PAIRS, batch_size=4),
    "DataLoader that shuffles": DataLoader(PAIRS, batch_size=4, shuffle=True),
    "DataLoader of dicts": DataLoader(Items("dict"), batch_size=4, shuffle=True),
    "DataLoader with its own collate": DataLoader(Items(), batch_size=4, shuffle=True, collate_fn=first_of),
    "DataLoader of an iterable": DataLoader(Stream(), batch_size=4),
    "DataLoader of a Dataset": DataLoader(WANTED, batch_size=4),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_examples(form: str) -> None:
    with warnings.catch_warnings(action="error"):
        found = as_dataset(FORMS[form], "test")
    assert torch.equal(found.images, X) and found.labels is not None and torch.equal(found.labels, Y)
    assert found.digest == WANTED.digest and found.classes == 3 and found.scale == 255


def test_names_and_paths(tmp_path: Path) -> None:
    for i in range(3):
        image.fromarray(X[i, 0].numpy()).save(tmp_path / f"{i}.png")
    by_name, by_path = as_dataset(f"folder:{tmp_path}", "test"), as_dataset(tmp_path, "test")
    assert by_name.digest == by_path.digest == load_dataset(f"folder:{tmp_path}", "test").digest
    assert as_dataset("digits", "test").digest == load_dataset("digits", "test").digest
    assert as_dataset(WANTED) is WANTED


def test_sets_that_torch_splits_and_joins_keep_names_pixels_and_labels() -> None:
    named = Dataset(name="toy", split="train", images=X, labels=Y, classes=4, names=list("abcdef"))
    part = as_dataset(random_split(named, [4, 2], generator=torch.Generator().manual_seed(0))[0])
    assert part.images.dtype == torch.uint8 and part.classes == 4
    assert torch.equal(part.images, X[["abcdef".index(each) for each in part.names or ()]])
    assert as_dataset(ConcatDataset([named, part])).names == (*"abcdef", *(part.names or ()))


class Column:
    """A column of a data frame, as pandas and polars have them."""

    def __init__(self, values: list[object], dtype: str) -> None:
        self.values, self.dtype = values, dtype

    def to_numpy(self) -> object:
        return np.array([np.nan if each is None else each for each in self.values])


class Frame:
    def __init__(self, **columns: Column) -> None:
        self.columns, self.dtypes = list(columns), [each.dtype for each in columns.values()]
        self._columns, self.shape = columns, (2, len(columns))

    def __getitem__(self, key: Any) -> Any:
        return Frame(**{each: self._columns[each] for each in key}) if isinstance(key, list) else self._columns[key]

    def __len__(self) -> int:
        return 2

    def to_numpy(self) -> object:
        raise AssertionError("columns are converted one by one")


def test_data_frames() -> None:
    frame = Frame(a=Column([1, 2], "Int64"), b=Column([0.5, -3.0], "float64"), c=Column([True, False], "Boolean"))
    rows = as_dataset(frame)
    assert rows.images.dtype == torch.float32 and rows.images.tolist() == [[1.0, 0.5, 1.0], [2.0, -3.0, 0.0]]
    labelled = as_dataset((frame, [1, 0]))
    assert torch.equal(labelled.images, rows.images) and labelled.classes == 2
    with pytest.raises(ShapeError, match=r"town \(str\), day \(datetime64\)"):
        as_dataset(Frame(a=frame["a"], town=Column(["x", "y"], "str"), day=Column([0, 1], "datetime64")))
    with pytest.raises(ShapeError, match=r"age \(interval\[int64\]\)"):
        as_dataset(Frame(age=Column([1, 2], "interval[int64]")))
    twice = Frame(a=frame["a"])
    twice.columns = ["a", "a"]
    with pytest.raises(ShapeError, match=r"columns of one name \(.a, a"):
        as_dataset(twice)
    with pytest.raises(DataError, match="column 'b', first in row 1"):
        as_dataset(Frame(b=Column([1.0, None], "Float64")))


def test_a_model_of_a_data_frame_takes_its_columns_by_name(tmp_path: Path) -> None:
    a, b, c = (Column(values, "float64") for values in ([0.0, 1.0], [5.0, 7.0], [-1.0, 2.0]))
    tables = {"variant": "vae", "architecture": {"latent": 2, "likelihood": "gaussian"}, "data": {"name": "mine"},
              "train": {"steps": 2, "batch_size": 2}}  # fmt: skip
    frame = Frame(**{"a": a, "km/h": b})
    vaezoo.train(tables, data=frame, validation=Frame(**{"km/h": b, "a": a}), out=tmp_path / "mine", trackers=())
    model = vaezoo.load(tmp_path / "mine")
    assert model.config is not None and model.config["data"]["columns"] == ["a", "km/h"]  # type: ignore[index]
    expected = [[0.0, 5.0], [1.0, 7.0]]
    for same in (frame, Frame(**{"km/h": b, "a": a}), Frame(**{"km/h": b, "c": c, "a": a}), torch.tensor(expected)):
        assert test_sets.test_set(model, same).images.tolist() == expected
    labelled = test_sets.test_set(model, (Frame(**{"km/h": b, "a": a}), [1, 0]))
    assert labelled.images.tolist() == expected and labelled.labels is not None
    with pytest.raises(ShapeError, match="without the columns 'km/h'; expected those of the training data: 'a, km/h'"):
        vaezoo.evaluate(model, Frame(a=a, c=c), 2)


def test_batches_of_a_loader_with_names_of_classes() -> None:
    items = [(x, "abc"[int(y)]) for x, y in zip(X, Y, strict=True)]
    sampler = torch.utils.data.SubsetRandomSampler(range(3, 6))
    found = as_dataset(DataLoader(items, batch_size=2, sampler=sampler))  # type: ignore[arg-type]  # a list will do
    assert found.class_names == ("a", "b", "c") and found.labels is not None and found.labels.sum() == 3
    assert torch.equal(found.images[found.labels.argsort()], X[3:])


def test_sparse_tensors_become_dense() -> None:
    assert torch.equal(as_dataset(torch.eye(3).to_sparse()).images, torch.eye(3))


def test_tables_as_lists() -> None:
    assert as_dataset([[1.0, 2.5], [3.0, 4.0]]).images.tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert as_dataset([np.zeros(3, np.float32)] * 2).shape == (3,)


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (np.ma.masked_equal([[1.0, -9999.0]], -9999.0), DataError, "masked"),
        ([np.ma.masked_equal([1.0, -9999.0], -9999.0)], DataError, "item 0.*masked"),
        ([torch.zeros(2), torch.zeros(3)], ShapeError, "item 1"),
        ([image.new("L", (2, 2)), image.new("L", (2, 3))], ShapeError, "item 1"),
        ([(torch.zeros(2), 1), (torch.zeros(2),)], DataError, "1 of them with a condition"),
        ([], DataError, "0 items"),
        ([{"a": torch.zeros(2), "b": 1}], ShapeError, "keys 'a, b'.*image_key"),
        ([{"x": torch.zeros(2), "image": torch.zeros(2)}], ShapeError, "exactly one"),
        (({"a": 1}, Y), ShapeError, "x is a dict"),
        (7, ShapeError, "got a int"),
        (None, ShapeError, "got a NoneType"),
        (iter(()), DataError, "0 items"),
        (DataLoader(PAIRS, batch_size=None), ShapeError, "rows|without rows|condition"),
    ],
)
def test_other_data_is_refused(data: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        as_dataset(data)


def test_the_key_of_the_image_can_be_named() -> None:
    items = [{"left": x, "right": 255 - x, "label": int(y)} for x, y in zip(X, Y, strict=True)]
    assert torch.equal(as_dataset(items, image_key="right").images, 255 - X)
    assert torch.equal(as_dataset([{"anything": x} for x in X]).images, X)
    with pytest.raises(ShapeError, match="'up' is none of them"):
        as_dataset(items, image_key="up")


def test_images_of_several_sizes_are_resized_one_by_one() -> None:
    images = [image.new("L", (4, 4), 10), image.new("L", (9, 5), 200)]
    found = as_dataset(images, options=ImageOptions.of(size=3))
    assert found.shape == (1, 3, 3) and found.images.flatten(1).unique(dim=1).tolist() == [[10], [200]]


class Random(Items):
    """Adds noise to every item with probability 1/2, as augmentation does."""

    def __getitem__(self, index: int) -> object:
        return X[index].float() + (torch.rand(1) < 0.5) * torch.rand(1), int(Y[index])


@pytest.mark.parametrize("limit", [None, 0])
def test_random_items_are_noticed(limit: int | None) -> None:
    with pytest.warns(UserWarning, match=r"differ when they are read twice.*data\.flip"):
        found = from_tensors(Random(), limit=limit)
    same = torch.equal(found.batch(slice(None)), found.batch(slice(None)))
    assert same is (limit is None) and found.digest == found.digest  # streamed items are read at every use


def test_random_labels_are_noticed() -> None:
    class Labels(torch.utils.data.Dataset[tuple[Tensor, int]]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return X[0], int(torch.randint(10**4, ()))

    with pytest.warns(UserWarning, match="differ when they are read twice"):
        from_tensors(Labels())


class TestStreaming:
    @pytest.mark.parametrize("form", ["pairs", "dicts", "TensorDataset", "ConcatDataset"])
    def test_map_style_sets_above_the_memory_limit(self, form: str) -> None:
        found = from_tensors(FORMS[form], limit=0)
        assert isinstance(found, StreamedDataset) and found.digest == WANTED.digest
        assert torch.equal(found.batch([3, 1]), WANTED.batch([3, 1]))
        assert found.labels is not None and found[4][1] == 1 and len(found.subset(found.labels == 2)) == 2

    def test_floating_values_and_vectors(self) -> None:
        data = TensorDataset(torch.randn(5, 3), torch.randn(5, 2))
        memory, streamed = from_tensors(data), from_tensors(data, limit=0)
        assert streamed.images.dtype == torch.float32 and streamed.digest == memory.digest
        assert torch.equal(streamed.batch(slice(None)), memory.images)
        assert streamed.context is not None and torch.equal(streamed.context, data.tensors[1])
        data.tensors[0][2, 1] = torch.nan
        with pytest.raises(DataError, match="example 2"):
            streamed.batch([0, 2])

    def test_memory_maps(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", X.numpy())
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        assert torch.equal(from_tensors(mapped).images, X)
        for data in (mapped, (mapped, Y)):
            found = from_tensors(data, limit=0)
            assert isinstance(found, StreamedDataset) and torch.equal(found.batch(slice(None)) * 255, X.float())


class TestIterables:
    def test_only_the_beginning_is_read_on_request(self) -> None:
        stream = Stream(None)
        found = from_tensors(stream, beginning=7)
        assert isinstance(found, EndlessDataset) and stream.read == 8 and len(found) == 7
        assert from_tensors(Stream(7), beginning=7).digest == from_tensors(Stream(7)).digest  # one that ends before

    def test_one_that_does_not_end_is_refused_at_the_memory_limit(self) -> None:
        stream = Stream(None)
        with pytest.raises(DataError, match=r"has not ended after 10 items.*train\.steps"):
            from_tensors(stream, limit=9 * (12 + 1_000))
        assert stream.read == 10

    def test_one_that_cannot_begin_anew_is_refused(self) -> None:
        with pytest.raises(ShapeError, match="only once"):
            from_tensors(iter(Stream(None)), beginning=3)
