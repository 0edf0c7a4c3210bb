"""Image folders as people have them: photographs, transparency, odd formats, splits, damaged and mixed files."""

import ast
import io
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn.functional import interpolate

import vaezoo
from vaezoo.data import Dataset, ImageOptions, from_tensors, load_dataset
from vaezoo.data.from_tensors import as_tensor
from vaezoo.data.readers import pixels as readers
from vaezoo.data.readers.pixels import MOST_PIXELS, draft, open_image
from vaezoo.errors import ConfigError, DataError

Pixels = NDArray[np.uint8]

# The stored image for an upright one, by EXIF orientation (the definitions of the standard, section 4.6.4).
STORED = {
    1: lambda up: up,
    2: np.fliplr,
    3: lambda up: np.rot90(up, 2),
    4: np.flipud,
    5: lambda up: up.swapaxes(0, 1),
    6: lambda up: np.rot90(up, 1),  # to be turned by 90 degrees clockwise
    7: lambda up: up[::-1, ::-1].swapaxes(0, 1),
    8: lambda up: np.rot90(up, -1),
}


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def fill(folder: Path, *images: Image.Image, suffix: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        image.save(folder / f"{number:02}.{suffix}", quality=100, subsampling=0)
    return folder


def everything(folder: Path, **options: object) -> Dataset:
    return load_dataset(f"folder:{folder}", "all", **options)  # type: ignore[arg-type]


def first(folder: Path, **options: object) -> torch.Tensor:
    return everything(folder, **options).images[0]


@pytest.mark.parametrize(("suffix", "tolerance"), [("png", 0), ("tiff", 0), ("webp", 4), ("jpg", 4)])
def test_the_orientation_of_photographs_is_applied(tmp_path: Path, suffix: str, tolerance: int) -> None:
    upright = noise(2, 3).repeat(16, 0).repeat(16, 1)
    for orientation, store in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(store(upright).copy()).save(tmp_path / f"{orientation}.{suffix}", exif=exif, quality=100)
    got = everything(tmp_path).images
    assert got.shape == (8, 3, 32, 48)
    off = (got.float() - torch.from_numpy(upright).permute(2, 0, 1)).abs().mean((1, 2, 3))
    assert off.max() <= tolerance  # the mean; about 80 in a wrong orientation
    small = everything(tmp_path, size=[8, 12], crop="none").images.float()
    assert (small - small[:1]).abs().mean() <= tolerance


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_metadata_do_not_reject_a_photograph(tmp_path: Path) -> None:
    image = Image.fromarray(noise(4, 4))
    for number in range(2):
        image.save(tmp_path / f"{number}.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00\x01")
    assert np.array_equal(first(tmp_path).permute(1, 2, 0), noise(4, 4))


def test_transparency_becomes_the_background(tmp_path: Path) -> None:
    half = np.dstack([noise(4, 4), np.full((4, 4), 128, np.uint8)])
    fill(tmp_path, *[Image.fromarray(half)] * 2)
    ink = half[..., :3].astype(float).transpose(2, 0, 1)
    for color, rgb in {
        "white": (255, 255, 255),
        "#ff8000": (255, 128, 0),
        (1, 2, 3): (1, 2, 3),
        "black": (0, 0, 0),
    }.items():
        expected = (ink * 128 + np.array(rgb).reshape(3, 1, 1) * 127) / 255
        assert np.abs(first(tmp_path, background=color).numpy() - expected).max() <= 1
    with pytest.warns(UserWarning, match=r"got 2 images, 2 with transparency, which becomes black"):
        black = first(tmp_path)
    assert torch.equal(black, first(tmp_path, background="black"))
    digests = {everything(tmp_path, background=color).digest for color in ("white", "black")}
    assert len(digests) == 2


def test_transparent_gray_on_a_color_is_in_color(tmp_path: Path) -> None:
    fill(tmp_path, *[Image.new("LA", (3, 3), (200, 0))] * 2)
    assert first(tmp_path, background="red")[:, 0, 0].tolist() == [255, 0, 0]
    assert first(tmp_path, background="white")[:, 0, 0].tolist() == [255]
    assert first(tmp_path, background="white", channels="color")[:, 0, 0].tolist() == [255] * 3


def test_palettes_cmyk_and_16_bits(tmp_path: Path) -> None:
    palette = Image.fromarray(noise(5, 5)).quantize(64)
    fill(tmp_path / "palette", palette, palette)
    assert np.array_equal(first(tmp_path / "palette").permute(1, 2, 0), np.array(palette.convert("RGB")))
    clear = Image.new("P", (3, 3), 1)
    clear.putpalette([9, 9, 9, 250, 0, 0])
    clear.info["transparency"] = 1
    fill(tmp_path / "clear", clear, clear)
    assert first(tmp_path / "clear", background="white").min() == 255
    for suffix in ("jpg", "tif"):
        fill(tmp_path / suffix, *[Image.new("CMYK", (8, 8), (255, 0, 0, 0))] * 2, suffix=suffix)
        assert (first(tmp_path / suffix)[:, 4, 4] - torch.tensor([0, 255, 255])).abs().max() <= 2
    deep = np.arange(0, 65_536, 257 * 16 + 5, dtype=np.uint16).reshape(4, 4)
    for suffix in ("png", "tif"):
        fill(tmp_path / f"deep {suffix}", *[Image.fromarray(deep)] * 2, suffix=suffix)
        with pytest.warns(UserWarning, match=r"2 with 16 bits per channel"):
            got = first(tmp_path / f"deep {suffix}")
        assert np.array_equal(got[0], np.rint(deep / 257))
    fill(tmp_path / "float", *[Image.fromarray(deep.astype(np.float32))] * 2, suffix="tif")
    with pytest.raises(DataError, match=r"(?s)2 images.*00\.tif: .*more than 16 bits.*01\.tif"):
        first(tmp_path / "float")


def test_of_animations_the_first_frame_is_read_and_photographs_in_pairs_are_none(tmp_path: Path) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (0, 90, 200)]
    for suffix in ("gif", "png", "webp", "tiff"):
        folder = tmp_path / suffix
        fill(folder, frames[1], suffix=suffix)
        frames[1].save(folder / f"9.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        frames[0].save(folder / f"8.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        with pytest.warns(UserWarning, match=r"got 3 images, 2 with several images in one file"):
            values = everything(folder, channels="gray").images[:, 0, 0, 0]
        assert values.tolist() == [90, 0, 90]
    pair = [Image.fromarray(noise(16, 16, seed)) for seed in (0, 1)]
    for name in ("0.jpg", "1.jpg"):
        pair[0].save(tmp_path / name, format="MPO", save_all=True, append_images=pair[1:], quality=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder = tmp_path / "mpo"
        folder.mkdir()
        for name in ("0.jpg", "1.jpg"):
            (tmp_path / name).rename(folder / name)
        got = first(folder)
    assert (got.float() - torch.from_numpy(noise(16, 16)).permute(2, 0, 1)).abs().mean() < 60


class TestSize:
    def test_a_center_crop_equals_torchs(self, tmp_path: Path) -> None:
        wide, tall = noise(20, 60), noise(90, 30, 1)
        fill(tmp_path, Image.fromarray(wide), Image.fromarray(tall))
        got = everything(tmp_path, size=10).images
        for image, pixels, size in zip(got, (wide, tall), ((10, 30), (30, 10)), strict=True):
            whole = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
            scaled = interpolate(whole, size, mode="bilinear", antialias=True)[0]
            expected = scaled[:, 10:20] if size[0] == 30 else scaled[:, :, 10:20]
            assert (image - expected).abs().max() <= 1
        assert everything(tmp_path, size=(10, 20)).shape == (3, 10, 20)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
    def test_without_a_crop_margins_have_the_background(self, tmp_path: Path, mode: str) -> None:
        fill(tmp_path, *[Image.new("RGB", (40, 20), (10, 10, 10)).convert(mode)] * 2)
        rows = first(tmp_path, size=20, crop="none", background="#00ff00", channels="color").permute(1, 2, 0)
        assert rows.shape == (20, 20, 3) and torch.equal(rows[5:15], torch.full((10, 20, 3), 10, dtype=torch.uint8))
        for margin in (rows[:5], rows[15:]):
            assert torch.equal(margin, torch.tensor([0, 255, 0], dtype=torch.uint8).expand(5, 20, 3))

    @pytest.mark.parametrize("crop", ["center", "none"])
    def test_a_thread_of_pixels_has_a_size_too(self, tmp_path: Path, crop: str) -> None:
        fill(tmp_path, Image.new("L", (2000, 1), 255), Image.new("L", (1, 2000), 255))
        assert everything(tmp_path, size=8, crop=crop).images.amax((1, 2, 3)).min() > 200

    def test_large_photographs_are_decoded_at_a_fraction(self, tmp_path: Path) -> None:
        ramp = np.linspace(0, 255, 1600).astype(np.uint8)
        fill(tmp_path, *[Image.fromarray(np.broadcast_to(ramp, (1200, 1600)).copy())] * 2, suffix="jpg")
        for crop, side in (("center", 200), ("none", 200)):
            with open_image(tmp_path / "00.jpg") as image:
                draft(image, ImageOptions.of(size=50, crop=crop))
                assert image.size == (side, 150)
        got = first(tmp_path, size=[30, 40])[0, 15]
        expected = torch.from_numpy(ramp.reshape(40, 40).mean(1))
        assert (got - expected)[1:-1].abs().max() < 2

    def test_invalid_options_are_refused(self) -> None:
        for given in (
            {"size": 0}, {"size": [3]}, {"size": "64"}, {"size": 10**6}, {"size": True}, {"size": 8, "crop": "middle"},
            {"crop": "none"}, {"channels": "rgb"}, {"background": "whit"}, {"background": [0, 0, 256]},
            {"background": "#ffffff80"},
        ):  # fmt: skip
            with pytest.raises(ConfigError, match=rf"Got {list(given)[-1]} = .*(expected|size)"):
                load_dataset("folder:/nowhere", **given)  # type: ignore[arg-type]
        assert ImageOptions.of(size=np.int64(8)).size == (8, 8)  # type: ignore[arg-type]
        assert ImageOptions.among(ImageOptions.of(size=8, background="red").facts()).facts() == {
            "size": [8, 8], "background": [255, 0, 0],
        }  # fmt: skip


class TestLayout:
    def values(self, folder: Path, split: str) -> list[int]:
        return sorted(load_dataset(f"folder:{folder}", split).images[:, 0, 0, 0].tolist())

    @pytest.mark.parametrize(
        "names",
        [
            ("train", "val", "test"),
            ("Training", "validation", "Testing"),
            ("train", "valid", "test"),
            ("Training_set", "dev-set", "test_set"),
            ("train2017", "eval", "holdout"),
        ],
    )
    @pytest.mark.parametrize("classes", [False, True])
    def test_folders_for_splits_are_no_classes(self, tmp_path: Path, names: tuple[str, ...], classes: bool) -> None:
        for number, name in enumerate(names):
            for color in range(number + 1):
                fill(tmp_path / name / ("dog" if classes else ""), *[Image.new("L", (2, 2), 50 * number)] * (color + 1))
        for number, split in enumerate(("train", "validation", "test")):
            found = load_dataset(f"folder:{tmp_path}", split)
            assert self.values(tmp_path, split) == [50 * number] * (number + 1) and found.split == split
            assert found.class_names == (("dog",) if classes else None)
        assert self.values(tmp_path, "all") == [0, 50, 50, 100, 100, 100]

    def test_the_validation_folder_replaces_a_missing_test_folder(self, tmp_path: Path) -> None:
        fill(tmp_path / "train", *[Image.new("L", (2, 2), 1)] * 3)
        with pytest.raises(DataError, match="split_off"):
            load_dataset(f"folder:{tmp_path}", "validation")
        assert (self.values(tmp_path, "train"), self.values(tmp_path, "test")) == ([1, 1], [1])  # a tenth of train
        fill(tmp_path / "val", *[Image.new("L", (2, 2), 2)] * 2)
        assert (self.values(tmp_path, "train"), self.values(tmp_path, "test")) == ([1, 1, 1], [2, 2])
        fill(tmp_path / "extra", Image.new("L", (2, 2), 3))
        with pytest.warns(UserWarning, match=r"1 folders and 0 images beside.*\(train, val\): extra"):
            assert self.values(tmp_path, "train") == [1, 1, 1]
        fill(tmp_path / "validation", Image.new("L", (2, 2), 2))
        with pytest.raises(DataError, match=r"folders val and validation for one split"):
            self.values(tmp_path, "train")

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        for name in ("plane", "train", "truck"):
            fill(tmp_path / name, *[Image.new("L", (2, 2))] * 2)
        found = everything(tmp_path)
        assert found.class_names == ("plane", "train", "truck") and found.labels is not None
        assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]

    def test_test_images_alone_are_no_training_set(self, tmp_path: Path) -> None:
        for name in ("test", "val"):
            fill(tmp_path / name, Image.new("L", (2, 2)))
        with pytest.raises(DataError, match="expected one named train"):
            load_dataset(f"folder:{tmp_path}")

    def test_all_in_memory_and_streamed(self, tmp_path: Path) -> None:
        for name in ("cat", "dog"):
            fill(tmp_path / name, *[Image.fromarray(noise(6, 8, seed)) for seed in range(12)])
        kept, streamed = everything(tmp_path, size=4), everything(tmp_path, size=4, memory_limit=0, workers=0)
        assert streamed.images.is_meta and kept.digest == streamed.digest and len(kept) == 24
        assert kept.class_names == streamed.class_names == ("cat", "dog")
        assert kept.digest != everything(tmp_path, size=4, crop="none").digest

    def test_ignored_suffixes_are_counted(self, tmp_path: Path) -> None:
        fill(tmp_path, *[Image.new("L", (2, 2))] * 2)
        (tmp_path / "__MACOSX").mkdir()
        for name in ("a.heic", "b.HEIC", "c.svg", "noname", ".hidden", "Thumbs.db"):
            (tmp_path / name).write_text("")
        with pytest.warns(
            UserWarning, match=r"Ignored 4 files that are no images \(\.heic: 2, \.svg: 1, no suffix: 1\)\. If"
        ):
            assert len(everything(tmp_path)) == 2
        for file in tmp_path.glob("*.png"):
            file.unlink()
        with pytest.raises(DataError, match=r"got no images.*Ignored 4 files.*\.heic: 2"):
            everything(tmp_path)


class TestErrors:
    def test_unreadable_files_are_named_at_once(self, tmp_path: Path) -> None:
        fill(tmp_path, *[Image.fromarray(noise(16, 16))] * 15)
        whole = (tmp_path / "00.png").read_bytes()
        for number in range(1, 13):
            (tmp_path / f"{number:02}.png").write_bytes(whole[: 20 + number])
        with pytest.raises(DataError, match=r"got 12 images that cannot be used") as caught:
            everything(tmp_path)
        named = re.findall(r"(\d\d)\.png: got a file that cannot be read", str(caught.value))
        assert named == [f"{number:02}" for number in range(1, 11)] and "and 2 more" in str(caught.value)

    @pytest.mark.parametrize("limit", [None, 0])
    def test_damaged_pixels_too(self, tmp_path: Path, limit: int | None) -> None:
        fill(tmp_path, *[Image.fromarray(noise(32, 32))] * 4)
        for name in ("01.png", "03.png"):
            data = (tmp_path / name).read_bytes()
            (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=r"(?s)got 2 images.*01\.png: .*03\.png: "):
            _ = load_dataset(f"folder:{tmp_path}", "all", memory_limit=limit, workers=0).digest

    def test_mixed_sizes_are_named(self, tmp_path: Path) -> None:
        fill(tmp_path, *[Image.new("L", (4, 3))] * 2, *[Image.new("L", (8, 8 + n)) for n in range(12)])
        with pytest.raises(DataError, match=r"13 different sizes; expected 4 x 3") as caught:
            everything(tmp_path)
        text = str(caught.value)
        assert "02.png (8 x 8)" in text and "11.png (8 x 17)" in text and "12.png" not in text
        assert "and 2 more" in text and "size = 64" in text

    def test_pixels_and_bytes_are_limited(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(tmp_path, *[Image.new("L", (4, 4))] * 2)
        (tmp_path / "bomb.pgm").write_bytes(b"P5 20000 20000 255\n")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as other libraries do
        with pytest.raises(
            DataError, match=rf"bomb\.pgm: got 20,000 x 20,000 pixels; expected at most {MOST_PIXELS:,}"
        ):
            everything(tmp_path)
        (tmp_path / "bomb.pgm").unlink()
        monkeypatch.setattr(readers, "LARGEST_FILE", 10)
        with pytest.raises(DataError, match=r"00\.png: got \d+ bytes; expected at most 10"):
            everything(tmp_path)

    def test_other_formats_are_not_opened(self, tmp_path: Path) -> None:
        fill(tmp_path, Image.new("L", (4, 4)))
        icon = io.BytesIO()
        Image.new("RGB", (16, 16)).save(icon, "ICO")
        (tmp_path / "cat.png").write_bytes(icon.getvalue())
        with pytest.raises(DataError, match=r"cat\.png.*PNG, JPEG"):
            everything(tmp_path)

    def test_eps_starts_no_ghostscript(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        script, ran, folder = tmp_path / "bin" / "gs", tmp_path / "ran", tmp_path / "images"
        script.parent.mkdir()
        script.write_text(f"#!/bin/sh\ntouch {ran}\necho 10\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # not searched for yet
        fill(folder, *[Image.new("L", (9, 9))] * 2)
        cat = folder / "cat.png"
        cat.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
        with pytest.raises(OSError), Image.open(cat) as image:
            image.load()
        ran.unlink()  # Pillow has started the program
        for options in ({}, {"memory_limit": 0}, {"size": 4}):
            with pytest.raises(DataError, match=r"cat\.png: got a file that cannot be read"):
                everything(folder, **options)
        items = [Image.open(folder / "00.png"), Image.open(cat)]
        for work in (lambda: from_tensors(Items(items)), lambda: as_tensor(items[1], "x")):
            with pytest.raises(DataError, match=r"format EPS, which is not decoded yet.*image\.load\(\)"):
                work()
        assert not ran.exists()


class Items(list[object], torch.utils.data.Dataset[object]):
    """A map-style data set."""


def test_images_are_opened_with_a_list_of_formats_everywhere() -> None:
    """Every call in the package that opens an image; the functions of other packages that decode files are not used."""
    opened = list[tuple[str, str]]()
    for file in sorted(Path(vaezoo.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            assert call.split(".")[-1] not in DECODERS, file
            if call in ("pillow.open", "Image.open", "PIL.Image.open", "image.open"):
                opened.append((file.name, ast.unparse(node)))
    assert {name for name, _ in opened} == {"pixels.py", "emoji.py"} and all("formats=" in call for _, call in opened)


DECODERS = ("read_image", "decode_image", "decode_png", "decode_jpeg", "imread", "default_loader", "pil_loader")
