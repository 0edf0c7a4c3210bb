"""Images in a folder: a class per subfolder where there are subfolders, otherwise images without labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from vaezoo.data.pixels import GREY_MODES, image_tensor, open_image
from vaezoo.data.record import Dataset
from vaezoo.data.splits import SPLITS, check_split, fixed_split
from vaezoo.errors import DataError

SPLIT_SEED: Final = 1
"""Chooses the test tenth of a folder without `train` and `test` subfolders."""

_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})


def load_folder(path: Path, split: str) -> Dataset:
    """Returns the images under `path`, in sorted order, as `uint8` of shape (N, C, H, W).

    C is 1 when every image is grey, otherwise 3; transparent pixels become black. All images must have one size. With
    both a `train` and a `test` subfolder these are the splits; otherwise every tenth image, chosen once and for all
    and stratified by class, is the test set. Hidden files and files that are no images are left out.

    Args:
        path: A folder of images, or of one subfolder per class.
        split: `"train"` or `"test"`.

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
    return Dataset(name=name, split=split, images=_read(files, grey), labels=labels, classes=len(classes) or None)


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


def _read(files: Sequence[Path], grey: bool) -> Tensor:
    """Decodes all files into one tensor, allocated once."""
    result: Tensor | None = None
    for i, file in enumerate(files):
        with open_image(file) as image:
            pixels = image_tensor(image, str(file), grey=grey)
        if result is None:
            result = torch.empty(len(files), *pixels.shape, dtype=torch.uint8)
        if pixels.shape != result.shape[1:]:
            (height, width), (first_height, first_width) = pixels.shape[1:], result.shape[2:]
            raise DataError(
                f"{file}: got an image of {width} x {height} pixels; expected {first_width} x {first_height}, the size "
                f"of the first one, {files[0]}. Resize all images to one size first."
            )
        result[i] = pixels
    assert result is not None  # _listing refuses an empty folder
    return result
