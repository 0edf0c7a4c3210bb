"""Images in a folder: a class per subfolder where there are subfolders, otherwise images without labels."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from vaezoo.data.dataset import Dataset
from vaezoo.data.readers.pixels import GREY_MODES, check_depth, image_tensor, open_image
from vaezoo.data.splits import SPLITS, check_split, fixed_split
from vaezoo.data.streaming.dataset import StreamedDataset, stream
from vaezoo.data.streaming.limits import memory_limit
from vaezoo.errors import DataError

SPLIT_SEED: Final = 1
"""Chooses the test tenth of a folder without `train` and `test` subfolders."""

_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})


def load_folder(path: Path, split: str, *, limit: int | None = None, workers: int | None = None) -> Dataset:
    """Returns the images under `path`, in sorted order, as `uint8` of shape (N, C, H, W).

    C is 1 when every image is grey, otherwise 3; transparent pixels become black. All images must have one size. With
    both a `train` and a `test` subfolder these are the splits; otherwise every tenth image, chosen once and for all
    and stratified by class, is the test set. Hidden files and files that are no images are left out.

    Args:
        path: A folder of images, or of one subfolder per class.
        split: `"train"` or `"test"`.
        limit: Bytes of decoded images above which the split is streamed; see `memory_limit`. Of a streamed split only
            the headers are read here, which tell sizes and channels.
        workers: How many processes read a streamed split; see `worker_count`.

    Raises:
        DataError: There is no such folder or split, no image, a corrupt image, or images of different sizes.
        MissingExtraError: Pillow is not installed.
    """
    name = f"folder:{path}"
    check_split(name, split)
    if not path.is_dir():
        raise DataError(f"{name}: got no folder at this path; expected a folder of images. Check the path.")
    parts = [path / part for part in SPLITS]
    paired = all(part.is_dir() for part in parts)
    roots = parts if paired else [path]
    classes = sorted({found.name for root in roots for found in _subfolders(root)})
    files, labels = _listing(path / split if paired else path, classes)
    if not paired:
        files, labels = _tenth(files, labels, split)
    # Both splits are looked at for the channels, or a grey test set beside a colour training set would not fit it.
    grey = all(_is_grey(file) for root in roots for file in _listing(root, classes)[0])
    count = len(classes) or None
    if len(files) * math.prod(_header(files[0], grey)) > memory_limit(limit):
        reader = stream(FolderImages(files, grey))
        return StreamedDataset(name=name, split=split, reader=reader, labels=labels, classes=count, workers=workers)
    return Dataset(name=name, split=split, images=_read(files, grey), labels=labels, classes=count)


class FolderImages:
    """Image files, decoded one at a time (an `ImageSource`).

    Args:
        files: At least one; their headers are read.
        grey: Whether the images have one channel or three.

    Raises:
        DataError: A header cannot be read, or tells another size than the first one, or more than 8 bits per channel.
    """

    def __init__(self, files: Sequence[Path], grey: bool) -> None:
        self.files, self.grey = [str(file) for file in files], grey
        self.shape = _header(files[0], grey)
        for file in files:
            _check_size(file, _header(file, grey), self.shape, files[0])

    def __len__(self) -> int:
        """Returns how many files there are."""
        return len(self.files)

    def read(self, position: int) -> Tensor:
        """Returns the image at `position` as `uint8` of shape (C, H, W).

        Raises:
            DataError: It cannot be read, or has another size than when the set was loaded.
        """
        file = Path(self.files[position])
        with open_image(file) as image:
            pixels = image_tensor(image, str(file), grey=self.grey)
        _check_size(file, tuple(pixels.shape), self.shape, Path(self.files[0]))
        return pixels


def _subfolders(root: Path) -> list[Path]:
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))


def _images_in(root: Path, pattern: str) -> list[Path]:
    files = sorted(
        file
        for file in root.glob(pattern)
        if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    return files


def _listing(root: Path, classes: Sequence[str]) -> tuple[list[Path], Tensor | None]:
    """Returns the image files of a folder in sorted order, and their class numbers where there are classes."""
    loose = _images_in(root, "*")
    if classes and loose:
        raise DataError(
            f"{root}: got both class subfolders and an image beside them ({loose[0].name}); expected one or the "
            "other. Move loose images into a subfolder."
        )
    files, labels = list(loose), list[int]()
    for folder in _subfolders(root):
        found = _images_in(folder, "**/*")
        if not found:
            raise DataError(f"{folder}: got a class folder without images; expected at least one. Remove or fill it.")
        files += found
        labels += [classes.index(folder.name)] * len(found)
    if not files:
        raise DataError(
            f"{root}: got no images; expected files that end in one of {', '.join(sorted(_SUFFIXES))}. Check the path."
        )
    return files, torch.tensor(labels) if classes else None


def _tenth(files: list[Path], labels: Tensor | None, split: str) -> tuple[list[Path], Tensor | None]:
    if len(files) < 2:
        raise DataError(f"{files[0].parent}: got one image; expected at least two, for train and test. Add images.")
    index = fixed_split(labels, len(files), every=10, seed=SPLIT_SEED)[split]
    return [files[i] for i in index.tolist()], None if labels is None else labels[index]


def _is_grey(file: Path) -> bool:
    with open_image(file) as image:  # reads the header only
        return image.mode in GREY_MODES


def _header(file: Path, grey: bool) -> tuple[int, ...]:
    """Returns the shape that an image will be decoded to."""
    with open_image(file) as image:  # reads the header only
        check_depth(image, str(file))
        return (1 if grey else 3, image.height, image.width)


def _check_size(file: Path, shape: tuple[int, ...], expected: tuple[int, ...], first: Path) -> None:
    if shape != expected:
        raise DataError(
            f"{file}: got an image of {shape[2]} x {shape[1]} pixels; expected {expected[2]} x {expected[1]}, the size "
            f"of the first one, {first}. Resize all images to one size first."
        )


def _read(files: Sequence[Path], grey: bool) -> Tensor:
    """Decodes all files into one tensor, allocated once."""
    result: Tensor | None = None
    for i, file in enumerate(files):
        with open_image(file) as image:
            pixels = image_tensor(image, str(file), grey=grey)
        if result is None:
            result = torch.empty(len(files), *pixels.shape, dtype=torch.uint8)
        _check_size(file, tuple(pixels.shape), tuple(result.shape[1:]), files[0])
        result[i] = pixels
    assert result is not None  # _listing refuses an empty folder
    return result
