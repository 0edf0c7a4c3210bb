"""Reader of image folders: one class per subfolder, or images without labels if there are no subfolders."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from vaezoo.data.dataset import Dataset
from vaezoo.data.readers.pixels import GRAY_MODES, check_depth, image_tensor, open_image
from vaezoo.data.splits import SPLITS, check_split, fixed_split
from vaezoo.data.streaming.dataset import StreamedDataset, stream
from vaezoo.data.streaming.limits import memory_limit
from vaezoo.errors import DataError

SPLIT_SEED: Final = 1
"""Seed that chooses the test tenth of a folder without `train` and `test` subfolders."""

_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})


def load_folder(path: Path, split: str, *, limit: int | None = None, workers: int | None = None) -> Dataset:
    """Returns the images under `path`, in sorted order, as `uint8` of shape (N, C, H, W).

    C is 1 if every image is gray, otherwise 3; transparent pixels become black. All images must have one size. If both
    a `train` and a `test` subfolder exist, these are the splits; otherwise a fixed tenth, stratified by class, is the
    test set. Hidden files and files other than images are ignored.

    Args:
        path: A folder of images, or of one subfolder per class.
        split: `"train"` or `"test"`.
        limit: See `memory_limit`. Only the headers of a streamed split are read here.
        workers: See `worker_count`.

    Raises:
        DataError: The folder or split does not exist, there is no image, an image is corrupt, or sizes differ.
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
    # Both splits determine the channels, so that a gray test set fits a color training set.
    gray = all(_is_gray(file) for root in roots for file in _listing(root, classes)[0])
    source, count = FolderImages(files, gray), len(classes) or None
    names = [file.relative_to(path).as_posix() for file in files]
    if len(files) * math.prod(source.shape) > memory_limit(limit):
        reader = stream(source)
        return StreamedDataset(
            name=name, split=split, reader=reader, labels=labels, classes=count, names=names, workers=workers
        )
    images = source.read(torch.arange(len(files)))
    return Dataset(name=name, split=split, images=images, labels=labels, classes=count, names=names)


class FolderImages:
    """Image files, decoded when they are read (an `ImageSource`).

    Args:
        files: At least one file; their headers are read.
        gray: Whether the images have one channel or three.

    Raises:
        DataError: A header cannot be read, has more than 8 bits per channel, or has another size than the first one.
    """

    def __init__(self, files: Sequence[Path], gray: bool) -> None:
        self.files, self.gray = [str(file) for file in files], gray
        self.shape = _header(files[0], gray)
        for file in files:
            _check_size(file, _header(file, gray), self.shape, files[0])

    def __len__(self) -> int:
        """Returns the number of files."""
        return len(self.files)

    def read(self, positions: Tensor) -> Tensor:
        """Returns the images at `positions` (B,) as `uint8` (B, C, H, W)."""
        images = torch.empty(len(positions), *self.shape, dtype=torch.uint8)
        for row, position in enumerate(positions.tolist()):
            file = Path(self.files[position])
            with open_image(file) as image:
                pixels = image_tensor(image, str(file), gray=self.gray)
            _check_size(file, tuple(pixels.shape), self.shape, Path(self.files[0]))
            images[row] = pixels
        return images


def _subfolders(root: Path) -> list[Path]:
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))


def _images_in(root: Path, pattern: str) -> list[Path]:
    found = (file for file in root.glob(pattern) if file.suffix.lower() in _SUFFIXES and file.is_file())
    return sorted(file for file in found if not file.name.startswith("."))


def _listing(root: Path, classes: Sequence[str]) -> tuple[list[Path], Tensor | None]:
    """Returns the image files of a folder in sorted order, and their class numbers if there are classes."""
    loose = _images_in(root, "*")
    if classes and loose:
        raise DataError(
            f"{root}: got both class subfolders and an image beside them ({loose[0].name}); expected one or the "
            "other. Move the image into a subfolder."
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


def _is_gray(file: Path) -> bool:
    with open_image(file) as image:  # reads only the header
        return image.mode in GRAY_MODES


def _header(file: Path, gray: bool) -> tuple[int, ...]:
    """Returns the shape of the decoded image."""
    with open_image(file) as image:  # reads only the header
        check_depth(image, str(file))
        return (1 if gray else 3, image.height, image.width)


def _check_size(file: Path, shape: tuple[int, ...], expected: tuple[int, ...], first: Path) -> None:
    if shape != expected:
        raise DataError(
            f"{file}: got an image of {shape[2]} x {shape[1]} pixels; expected {expected[2]} x {expected[1]}, the size "
            f"of the first one, {first}. Resize all images to one size first."
        )
