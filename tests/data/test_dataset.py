"""`Dataset`, `from_tensors` and the bundled images."""

import warnings
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image as image

import vaezoo
from vaezoo.data import Dataset, bundled_images, from_tensors
from vaezoo.data.bundled import BUNDLED
from vaezoo.errors import DataError, ShapeError


def gray(count: int = 6) -> torch.Tensor:
    return (torch.arange(count * 4) * 10 % 256).to(torch.uint8).reshape(count, 1, 2, 2)


def labelled() -> Dataset:
    return Dataset(name="toy", split="train", images=gray(), labels=torch.arange(6) % 3, classes=3)


def test_batch_scales_pixels_and_leaves_floats_alone() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1)
    batch = Dataset(name="toy", split="train", images=images).batch(torch.tensor([2, 0, 1, 2]))
    assert batch.dtype == torch.float32
    assert batch.flatten().tolist() == [1.0, 0.0, pytest.approx(0.2), 1.0]
    table = torch.tensor([[-3.0, 300.0]], dtype=torch.float64)
    batch = Dataset(name="table", split="train", images=table).batch(torch.tensor([0]))
    assert batch.dtype == torch.float32 and batch.tolist() == [[-3.0, 300.0]]


def test_subsets_keep_labels_context_and_classes_and_splits_never_change() -> None:
    part = from_tensors((gray(), torch.arange(12.0).reshape(6, 2))).subset([4, 1, -1])
    assert torch.equal(part.images, gray()[[4, 1, 5]])
    assert part.context is not None and part.context[:, 0].tolist() == [8.0, 2.0, 10.0]
    assert labelled().subset(torch.tensor([0])).classes == 3
    for wrong in ([], [6], [-7], [[0]]):
        with pytest.raises(DataError, match="indices"):
            labelled().subset(wrong)
    dataset = from_tensors(torch.arange(20.0).unsqueeze(1))
    rest, held_out = dataset.split_off(5, seed=7)
    assert (rest.split, held_out.split) == ("train", "validation")
    assert held_out.images.flatten().tolist() == [3.0, 4.0, 6.0, 11.0, 12.0]  # golden: published splits rest on it
    assert sorted(torch.cat([rest.images, held_out.images]).flatten().tolist()) == list(range(20))
    for count in (0, 20, 21):
        with pytest.raises(DataError, match="hold out"):
            dataset.split_off(count, 0)


def test_digest_covers_the_content_alone() -> None:
    dataset = labelled()
    renamed = Dataset(name="other", split="test", images=gray(), labels=torch.arange(6) % 3, classes=3)
    assert dataset.digest == renamed.digest == dataset.digest
    assert dataset.digest != Dataset(name="toy", split="train", images=gray()).digest
    assert dataset.digest != from_tensors(gray().reshape(6, 4)).digest
    assert len(from_tensors(torch.zeros(2, 2, dtype=torch.bfloat16)).digest) == 64


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"images": gray().long()}, ShapeError, "int64"),
        ({"images": torch.zeros(0, 1, 2, 2)}, DataError, "at least one"),
        ({"images": torch.zeros(6)}, DataError, "at least one"),
        ({"images": torch.tensor([[1.0]] * 5 + [[float("nan")]])}, DataError, "example 5"),
        ({"scale": 1}, DataError, "scale = 1"),
        ({"labels": torch.arange(5)}, ShapeError, r"\(5,\).*one label per example. Pass as many labels"),
        ({"labels": torch.zeros(6)}, ShapeError, "Convert them with .long()"),
        ({"labels": torch.arange(6).int()}, ShapeError, "int32"),
        ({"labels": torch.arange(6)}, DataError, "0 to 5"),
        ({"labels": torch.arange(6) - 1}, DataError, "-1"),
        ({"classes": None}, DataError, "classes=None"),
        ({"context": torch.zeros(6)}, ShapeError, "context"),
        ({"context": torch.zeros(6, 2).long()}, ShapeError, "labels"),
        ({"context": torch.full((6, 2), torch.inf)}, DataError, "context"),
    ],
)
def test_invalid_data_is_refused(change: dict[str, object], error: type[Exception], match: str) -> None:
    good = {"name": "toy", "split": "train", "images": gray(), "labels": torch.arange(6) % 3, "classes": 3}
    with pytest.raises(error, match=match):
        Dataset(**{**good, **change})  # type: ignore[arg-type]  # wrong types on purpose


def test_from_tensors_takes_tensors_arrays_and_pairs() -> None:
    tensor = from_tensors(gray())
    assert (tensor.name, tensor.split, tensor.labels, tensor.scale) == ("tensors", "train", None, 255)
    array = from_tensors(gray().numpy(), "mine", split="test")
    assert array.digest == tensor.digest and (array.name, array.split) == ("mine", "test")
    assert from_tensors(tensor) is tensor
    by_class = from_tensors((gray(), np.array([0, 1, 2, 0, 1, 2], dtype=np.int32)))
    assert by_class.labels is not None and by_class.labels.dtype == torch.int64 and by_class.classes == 3
    assert from_tensors((gray(), torch.zeros(6).long()), classes=10).classes == 10
    by_vector = from_tensors((gray(), torch.randn(6, 4, requires_grad=True)))
    assert by_vector.labels is None and by_vector.context is not None and not by_vector.context.requires_grad


def test_scale_of_pixels_is_stated_and_can_be_set() -> None:
    masks = torch.eye(3, dtype=torch.uint8)
    with pytest.warns(UserWarning, match=r"mine: .*scale=1\).*scale=255"):
        guessed = from_tensors(masks, "mine")
    with warnings.catch_warnings(action="error"):
        sets = [guessed, from_tensors(masks.bool()), from_tensors(masks, scale=1)]
        assert all(each.scale == 1 and torch.equal(each.batch(torch.arange(3)), torch.eye(3)) for each in sets)
        dark, bright = from_tensors(masks, scale=255), from_tensors(255 * masks)
        assert torch.equal(dark.batch(torch.arange(3)) * 255, bright.batch(torch.arange(3)))
        assert from_tensors(0 * masks).scale == 255
    with pytest.raises(DataError, match="scale = 1"):
        from_tensors(gray(), scale=1)


class Squares(torch.utils.data.Dataset[object]):
    """Map-style; never raises IndexError."""

    def __init__(self, sizes: tuple[int, ...] = (2, 2, 2)) -> None:
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> object:
        size = self.sizes[index % len(self.sizes)]
        return torch.full((1, size, size), float(index)), index


class Pictures(Squares):
    def __getitem__(self, index: int) -> object:
        return image.new("RGB", (3, 2), (1 + index, 2, 3)), index


class Stream(torch.utils.data.IterableDataset[object]):
    def __iter__(self):  # type: ignore[no-untyped-def]  # as in user code
        return iter([np.zeros(3, dtype=np.float32), np.ones(3, dtype=np.float32)])


def test_from_tensors_takes_torch_datasets() -> None:
    squares = from_tensors(Squares())
    assert squares.shape == (1, 2, 2) and squares.labels is not None and squares.labels.tolist() == [0, 1, 2]
    assert from_tensors(Stream()).images.tolist() == [[0.0] * 3, [1.0] * 3]
    plain = from_tensors(torch.utils.data.TensorDataset(gray()))
    assert plain.digest == from_tensors(gray()).digest
    vectors = from_tensors(torch.utils.data.TensorDataset(gray(), torch.zeros(6, 2)))
    assert vectors.context is not None and vectors.context.shape == (6, 2)
    dataset = from_tensors(Pictures())
    assert dataset.shape == (3, 2, 3) and dataset.images[1, :, 0, 0].tolist() == [2, 2, 3]


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ("mnist", ShapeError, "got a str.*as_dataset"),
        (3, ShapeError, "got a int"),
        ((gray(), gray(), gray()), ShapeError, "got a tuple"),
        ((gray(), torch.zeros(6)), ShapeError, "condition"),
        ((gray(), torch.zeros(6, 1).long()), ShapeError, "condition"),
        ((gray(), torch.zeros(6, dtype=torch.bool)), ShapeError, "condition"),
        ((gray(), torch.zeros(5, 2)), ShapeError, "context"),
        (gray().long(), ShapeError, "int64"),
        (np.array([None]), ShapeError, "not a tensor"),
        (Squares((2, 2, 3)), ShapeError, "item 2"),
        (Squares(()), DataError, "0 items"),
    ],
)
def test_from_tensors_refuses_other_data(data: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        from_tensors(data)


@pytest.mark.parametrize(
    ("name", "shape", "labels", "licenses"),
    [
        ("mnist", (64, 1, 28, 28), [7, 2, 1, 0, 4, 1, 4, 9, 5], ["CC BY-SA 3.0"]),
        ("fashion-mnist", (64, 1, 28, 28), [9, 2, 1, 1, 6, 1, 4, 6, 5], ["MIT"]),
        ("emoji", (27, 3, 64, 64), [0, 1, 3, 4, 5, 6, 7, 8, 9], ["Apache-2.0", "CC BY 4.0", "MIT"]),
    ],
)
def test_bundled_images_and_their_licenses(
    name: str, shape: tuple[int, ...], labels: list[int], licenses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = bundled_images(name)
    assert (images.name, tuple(images.images.shape), images.classes) == (name, shape, 10)
    assert images.labels is not None and images.labels[:9].tolist() == labels
    notice = (files("vaezoo.data") / "images.LICENCE.txt").read_text()
    assert all(each in images.licence for each in licenses) and BUNDLED[name].name in notice
    damaged = BUNDLED[name]._replace(name="images.LICENCE.txt")
    monkeypatch.setitem(BUNDLED, name, damaged)
    with pytest.raises(DataError, match="reinstall"):
        bundled_images(name)


def test_a_set_without_bundled_images_is_refused() -> None:
    with pytest.raises(DataError, match=r"'digits'; images of mnist, fashion-mnist, emoji are in the package"):
        bundled_images("digits")


def test_labels_from_one_are_noticed() -> None:
    x = torch.rand(6, 1, 4, 4)
    with pytest.warns(UserWarning, match="labels from 1 to 3, which are 4 classes with none of number 0"):
        assert from_tensors((x, torch.tensor([1, 2, 3, 1, 2, 3]))).classes == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_tensors((x, torch.tensor([1, 2, 3, 1, 2, 3])), classes=4)
        from_tensors((x, torch.tensor([0, 2, 3, 1, 2, 3])))


def test_classes_of_known_sets_have_names() -> None:
    fashion = bundled_images("fashion-mnist")
    assert fashion.class_names is not None and fashion.class_names[9] == "ankle boot"
    model = vaezoo.load("vq-vae-emoji")
    drawn, numbered = (model.sample(1, c, seed=0) for c in ("Flags", 3))
    assert torch.equal(drawn, numbered)
