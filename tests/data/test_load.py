"""Data sets by name, from folders and from torchvision."""

from pathlib import Path

import pytest
import torch
from PIL import Image as image

from vaezoo.data import Dataset, datasets, download_dataset, from_tensors, load_dataset
from vaezoo.errors import DataError, DownloadError, UnknownNameError

Color = int | tuple[int, ...]


def picture(path: Path, color: Color = 0, size: tuple[int, int] = (4, 3), mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.new(mode, size, color).save(path)
    return path


def test_mnist_is_mnist() -> None:
    download_dataset("mnist")
    train, test = load_dataset("mnist"), load_dataset("mnist", "test", download=False)
    assert (len(train), len(test), train.shape, train.classes) == (60_000, 10_000, (1, 28, 28), 10)
    assert train.labels is not None and train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    histogram = train.images.flatten().bincount(minlength=256).double()
    mean = (histogram @ (torch.arange(256) / 255).double()) / histogram.sum()
    assert mean.item() == pytest.approx(0.13066, abs=5e-6)
    assert train.images.dtype == torch.uint8 and "CC BY-SA 3.0" in train.licence
    assert test.digest == "e40f9e400931556a6a016f0aeb12ccaa51caf46b46953f76a67ad59378c05934"


def test_digits_and_their_split_never_change() -> None:
    train, test = load_dataset("digits"), load_dataset("digits", "test")
    assert (len(train), len(test), test.shape) == (1437, 360, (1, 8, 8))
    assert test.labels is not None and test.labels.bincount().tolist() == [36, 36, 36, 36, 37, 36, 36, 36, 35, 36]
    levels = {round(v * 255 / 16) for v in range(17)}
    assert int(test.images.max()) == 255 and set(test.images.flatten().tolist()) <= levels
    assert train.digest == "0ae2274577d8322405554c30c25194f21939014539f44055de79f4dfac7f9281"
    assert test.digest == "eab599a0fd179a5b0173d832ac499695fbbe40effe4d3a8793defe026fcfa458"


def test_names_are_looked_up_and_former_ones_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="fashion-mnist"):
        load_dataset("fashion_mnist")
    with pytest.raises(DataError, match="split_off"):
        load_dataset("digits", "validation")
    with pytest.raises(DataError, match="Did you mean 'train'"):
        load_dataset("mnist", "trian")
    with pytest.warns(DeprecationWarning, match="color-dsprites"):
        assert load_dataset("colour-dsprites", "all").name == "color-dsprites"
    assert "colour-dsprites" not in datasets.names()
    monkeypatch.setattr("vaezoo.data.load._RENAMED", {"ciphers": "digits"})
    with pytest.warns(DeprecationWarning, match="digits"):
        assert download_dataset("ciphers") == []


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_without_download_only_the_cache_is_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="t10k-images-idx3-ubyte"):
        load_dataset(name, "test", cache_dir=tmp_path, download=False)
    assert not list(tmp_path.iterdir())
    file = tmp_path / "data" / name / "t10k-images-idx3-ubyte"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"truncated")
    with pytest.raises(DownloadError, match="t10k-images-idx3-ubyte"):
        load_dataset(name, "test", cache_dir=tmp_path, download=False)


def test_a_data_set_declares_the_parameters_that_it_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []

    def made(**given: object) -> Dataset:
        calls.append(given)
        return from_tensors(torch.linspace(0, 1, 10).unsqueeze(1), "ramp")

    for table in ("_entries", "_owners"):  # what is registered here ends with the test
        monkeypatch.setattr(datasets, table, dict(getattr(datasets, table)))
    for function in (
        lambda split: made(split=split),
        lambda split, *, cache: made(split=split, cache=cache),
        lambda split, *, cache, download: made(split=split, cache=cache, download=download),
    ):
        datasets.register("of-this-test", function, override=True)
        assert len(load_dataset("of-this-test", "test", cache_dir=tmp_path, download=False)) == 10
    split = {"split": "test"}
    assert calls == [split, {**split, "cache": tmp_path}, {**split, "cache": tmp_path, "download": False}]
    assert download_dataset("of-this-test") == []
    datasets.register("of-this-test", lambda split: [split], override=True)  # type: ignore[arg-type, return-value]
    with pytest.raises(DataError, match="returned a list"):
        load_dataset("of-this-test")


def test_a_folder_without_classes(tmp_path: Path) -> None:
    for i in range(20):
        picture(tmp_path / f"{i:02}.png", i)
    (tmp_path / "notes.txt").write_text("no image")
    picture(tmp_path / ".hidden.png")
    with pytest.warns(UserWarning, match=r"Ignored 1 file that is no image \(\.txt: 1\)"):
        train = load_dataset(f"folder:{tmp_path}")
    (tmp_path / "notes.txt").unlink()
    test = load_dataset(f"folder:{tmp_path}", "test")
    assert (len(train), len(test), train.shape, train.labels) == (18, 2, (1, 3, 4), None)
    values = torch.cat([train.images, test.images])[:, 0, 0, 0].tolist()
    assert sorted(values) == list(range(20))
    assert train.images[:, 0, 0, 0].tolist() == sorted(train.images[:, 0, 0, 0].tolist())
    assert load_dataset(f"folder:{tmp_path}").digest == train.digest


def test_a_folder_with_classes_is_split_by_class_or_by_its_folders(tmp_path: Path) -> None:
    for i in range(40):
        picture(tmp_path / "ba"[i % 2] / "deeper" / f"{i}.png", (i, 0, 9), mode="RGB")
    test = load_dataset(f"folder:{tmp_path}", "test")
    assert test.labels is not None and test.labels.tolist() == [0, 0, 1, 1] and test.classes == 2
    assert test.shape == (3, 3, 4) and set(test.images[0, 2].flatten().tolist()) == {9}
    both = tmp_path / "both"
    for place in ("train/cat/1.png", "train/dog/2.png"):
        picture(both / place)
    picture(both / "test" / "dog" / "3.png", (3, 3, 3), mode="RGB")
    train, test = (load_dataset(f"folder:{both}", split) for split in ("train", "test"))
    assert train.labels is not None and train.labels.tolist() == [0, 1]
    assert test.labels is not None and test.labels.tolist() == [1] and test.classes == 2
    assert train.shape == test.shape == (3, 3, 4)


@pytest.mark.filterwarnings("ignore:.*with transparency")
@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("1", 1, [255]),
        ("LA", (200, 0), [0]),
        ("P", 0, [0, 0, 0]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [0, 0, 0]),
    ],
)
def test_modes_become_gray_or_color(tmp_path: Path, mode: str, color: Color, expected: list[int]) -> None:
    for i in range(2):
        picture(tmp_path / f"{i}.png", color, mode=mode)
    assert load_dataset(f"folder:{tmp_path}").images[0, :, 0, 0].tolist() == expected


def test_folder_errors_name_the_file(tmp_path: Path) -> None:
    def refused(match: str, folder: Path = tmp_path) -> None:
        with pytest.raises(DataError, match=match):
            load_dataset(f"folder:{folder}")

    refused("no folder", tmp_path / "gone")
    refused("no images")
    picture(tmp_path / "0.png")
    refused("one image")
    for i in range(1, 20):
        picture(tmp_path / f"{i:02}.png")
    large = picture(tmp_path / "zz.png", size=(8, 9))
    refused(r"expected 4 x 3.*0\.png\. Others are .*zz\.png \(8 x 9\)")
    large.write_bytes(picture(large).read_bytes()[:44])
    refused(r"zz\.png.*cannot be read")
    large.write_bytes(b"no image")
    refused(r"zz\.png.*cannot be read")
    large.unlink()
    (tmp_path / "empty").mkdir()
    refused("beside them")
    for loose in tmp_path.glob("*.png"):
        loose.unlink()
    picture(tmp_path / "full" / "0.png")
    refused("empty.*without images")


def test_torchvision_errors(tmp_path: Path) -> None:
    for name in ("MNISTT", "VisionDataset", "os", "wrap_dataset_for_transforms_v2", "__builtins__"):
        with pytest.raises(UnknownNameError, match="torchvision data set"):
            load_dataset(f"torchvision:{name}", cache_dir=tmp_path)
    with pytest.raises(UnknownNameError, match="Did you mean 'torchvision:CIFAR10'"):
        load_dataset("torchvision:cifar-10", cache_dir=tmp_path)
    for name, match in (("FakeData", "from_tensors"), ("ImageFolder", "needs")):
        with pytest.raises(DataError, match=match):
            load_dataset(f"torchvision:{name}", cache_dir=tmp_path)
    with pytest.raises(DownloadError, match=r"CIFAR10.*download=False"):
        load_dataset("torchvision:CIFAR10", cache_dir=tmp_path, download=False)


def test_a_folder_without_its_prefix_is_named_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pics").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match="'folder:pics'"):
        load_dataset("pics")
