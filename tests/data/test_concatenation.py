"""`Dataset` as a torch data set: items, iteration, loaders, splits, concatenation, names."""

from pathlib import Path

import pytest
import torch
from PIL import Image as image
from torch.utils.data import DataLoader, random_split

from vaezoo.data import Dataset, Factors, binarize, from_tensors, load_dataset
from vaezoo.data.dataset import concatenate
from vaezoo.errors import DataError, ShapeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(12):
        place = tmp_path / ("a" if i < 6 else "b") / f"{i:02d}.png"
        place.parent.mkdir(exist_ok=True)
        image.new("L", (3, 2), 20 * i).save(place)
    return tmp_path


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values).unsqueeze(1)


@pytest.mark.parametrize("limit", [None, 0])
def test_a_folder_is_a_torch_data_set(folder: Path, limit: int | None) -> None:
    data = load_dataset(f"folder:{folder}", memory_limit=limit, workers=0)
    values = [20 * int(Path(name).stem) for name in data.names or ()]
    assert isinstance(data, torch.utils.data.Dataset) and len(values) == len(data) == 10
    labels = [0 if name.startswith("a/") else 1 for name in data.names or ()]
    assert [round(float(x[0, 0, 0]) * 255) for x, _ in data] == values and [c for _, c in data] == labels
    first, label = data[0]
    assert first.shape == (1, 2, 3) and first.dtype == torch.float32 and label == 0
    x, c = next(iter(DataLoader(data, batch_size=4)))
    assert torch.equal(x, data.batch(slice(4))) and c.tolist() == labels[:4]
    last = data[-3:]
    assert isinstance(last, Dataset) and last.names == data.names[-3:] and len(last) == 3  # type: ignore[index]
    assert sorted(len(part) for part in random_split(data, [7, 3])) == [3, 7]
    assert "\n" not in repr(data) and "10 examples (1, 2, 3) uint8, 2 classes" in repr(data)


@pytest.mark.parametrize("limits", [(None, None), (0, None), (None, 0), (0, 0)])
def test_concatenation_keeps_images_labels_and_names(folder: Path, limits: tuple[int | None, ...]) -> None:
    splits = ("train", "test")
    name = f"folder:{folder}"
    parts = [load_dataset(name, each, memory_limit=m, workers=0) for each, m in zip(splits, limits, strict=True)]
    whole = parts[0] + parts[1]
    order = [int(Path(each).stem) for each in whole.names or ()]
    assert len(whole) == 12 and sorted(order) == list(range(12)) and whole.labels is not None
    assert (whole.batch(slice(None))[:, 0, 0, 0] * 255).round().int().tolist() == [20 * i for i in order]
    assert whole.labels.tolist() == [int(i >= 6) for i in order]
    assert whole.digest == (load_dataset(name) + load_dataset(name, "test")).digest
    assert (whole.name, whole.split) == (name, "train")


def test_a_concatenation_of_binarized_streams_keeps_their_noise(folder: Path) -> None:
    name = f"folder:{folder}"
    memory = [binarize(load_dataset(name, each), "static") for each in ("train", "test")]
    streamed = [binarize(load_dataset(name, each, memory_limit=0, workers=0), "static") for each in ("train", "test")]
    assert concatenate(streamed).digest == concatenate(memory).digest


def test_concatenation_of_tables() -> None:
    factors = [Factors.of(torch.tensor([[i], [0]]), ["f"], [4]) for i in (1, 3)]
    both = from_tensors((rows(1.0, 2.0), rows(3.0, 4.0)), factors=factors[0]) + from_tensors(
        (rows(5.0, 6.0), rows(7.0, 8.0)), factors=factors[1]
    )
    assert both.images.flatten().tolist() == [1, 2, 5, 6]
    assert both.context is not None and both.context.flatten().tolist() == [3, 4, 7, 8]
    assert both.factors is not None and both.factors.values().flatten().tolist() == [1, 0, 3, 0]
    x, c = both[-1]
    assert x.tolist() == [6.0] and c.tolist() == [8.0]  # type: ignore[union-attr]
    mixed = from_tensors(rows(1.0)) + torch.utils.data.TensorDataset(rows(2.0, 3.0))
    assert isinstance(mixed, torch.utils.data.ConcatDataset) and len(mixed) == 3
    for other in (from_tensors(torch.zeros(2, 3)), from_tensors((rows(1.0, 2.0), torch.arange(2)))):
        with pytest.raises(ShapeError, match="differ"):
            from_tensors(rows(1.0)) + other
    with pytest.raises(DataError, match="no data sets"):
        concatenate([])


def test_names_are_one_for_each_example() -> None:
    data = Dataset(name="toy", split="train", images=rows(1.0, 2.0), names=["a", "b"])
    assert data.subset([1]).names == ("b",) and data[[True, False]].names == ("a",)
    assert data.split_off(1, 0)[1].names == data.subset([int(data.split_off(1, 0)[1].images) - 1]).names
    with pytest.raises(ShapeError, match="1 names"):
        Dataset(name="toy", split="train", images=rows(1.0, 2.0), names=["a"])
